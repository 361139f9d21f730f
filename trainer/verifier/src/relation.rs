//! Equations up to a constant factor, inequalities up to a positive one.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::canon::{Atom, Monomial, Poly, to_expr};
use crate::fold::number;
use crate::scalar::Comparer;
use crate::tree::{Expr, Relation, Value};
use crate::verdict::Reason;

/// The side that is zero, with the coefficients of each product of names.
type Sides = Vec<(Monomial, Poly)>;

impl Comparer<'_> {
    /// Left side minus right side of a single equation.
    pub(crate) fn equation_of(&self, value: &Value) -> Option<Expr> {
        match value {
            Value::Chain(first, rest) => match (first.as_ref(), rest.as_slice()) {
                (Value::Expr(left), [(Relation::Equal, Value::Expr(right))]) => {
                    Some(difference(left, right))
                }
                _ => None,
            },
            Value::Assign(name, inner) => match inner.as_ref() {
                Value::Expr(expr) if !name.contains(['(', ' ']) => {
                    Some(difference(&Expr::Name(name.clone()), expr))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Two equations `e = 0` are the same if they differ by a constant factor other than zero.
    pub(crate) fn equations(&mut self, a: &Expr, b: &Expr) -> Reason {
        let (Some(left), Some(right)) = (self.sides(a), self.sides(b)) else {
            return self.exprs(a, b);
        };
        match self.factor(&left, &right) {
            Some(_) => Reason::EqualForm,
            None if is_algebraic(&left) && is_algebraic(&right) => Reason::DifferentForm,
            None => match self.exprs(a, b) {
                reason if reason.correct() == Some(true) => reason,
                _ => Reason::DifferentForm,
            },
        }
    }

    /// The numerator of a form, grouped by products of names.
    fn sides(&mut self, expr: &Expr) -> Option<Sides> {
        let form = self.canon().form(expr).ok()?;
        let mut sides: BTreeMap<Monomial, Poly> = BTreeMap::new();
        for (monomial, coefficient) in form.top.0 {
            let is_name = |atom: &Atom| matches!(atom, Atom::Name(_) | Atom::Opaque(_));
            let (names, constants): (Monomial, Monomial) =
                monomial.into_iter().partition(|(atom, _)| is_name(atom));
            let poly = sides.entry(names).or_default();
            poly.0.insert(constants, coefficient);
        }
        Some(sides.into_iter().collect())
    }

    /// The leading coefficients of two proportional sides.
    fn factor(&mut self, a: &Sides, b: &Sides) -> Option<(Poly, Poly)> {
        if a.len() != b.len() {
            return None;
        }
        let (lead_a, lead_b) = match (a.last(), b.last()) {
            (None, None) => return Some((Poly::one(), Poly::one())),
            (Some((_, x)), Some((_, y))) => (x.clone(), y.clone()),
            _ => return None,
        };
        for ((names, x), (others, y)) in a.iter().zip(b) {
            if names != others {
                return None;
            }
            let mut canon = self.canon();
            let left = canon.multiply(x, &lead_b).ok()?;
            let right = canon.multiply(y, &lead_a).ok()?;
            if left != right {
                return None;
            }
        }
        Some((lead_a, lead_b))
    }

    /// Two chains of order relations, each link as an expression that is positive. None if they
    /// are no order relations of formulas.
    pub(crate) fn inequalities(
        &mut self,
        a: &Value,
        rest: &[(Relation, Value)],
        b: &Value,
        others: &[(Relation, Value)],
    ) -> Option<Reason> {
        let left = links(a, rest)?;
        let right = links(b, others)?;
        if left.len() != right.len() {
            return Some(Reason::DifferentSize);
        }
        let mut free = right;
        for (expr, is_strict) in left {
            let found = free
                .iter()
                .position(|(other, strict)| *strict == is_strict && self.same_sign(&expr, other));
            match found {
                Some(index) => {
                    free.swap_remove(index);
                }
                None => return Some(Reason::DifferentPart),
            }
        }
        Some(Reason::EqualStructure)
    }

    /// True if one is the other times a positive constant.
    fn same_sign(&mut self, a: &Expr, b: &Expr) -> bool {
        let is_whole = |form: &crate::canon::Form| form.bottom.as_constant().is_some();
        let mut canon = self.canon();
        let forms = canon.form(a).ok().zip(canon.form(b).ok());
        let Some((left, right)) = forms.filter(|(left, right)| is_whole(left) && is_whole(right))
        else {
            return self.exprs(a, b).correct() == Some(true);
        };
        let denominators = left.bottom.as_constant().zip(right.bottom.as_constant());
        let is_same_sign = denominators
            .is_some_and(|(p, q)| (p > dashu_ratio::RBig::ZERO) == (q > dashu_ratio::RBig::ZERO));
        let (Some(left), Some(right)) = (self.sides(a), self.sides(b)) else {
            return false;
        };
        let Some((x, y)) = self.factor(&left, &right) else {
            return false;
        };
        let budget = &mut self.evaluator.budget;
        let x = to_expr(&x, &self.opaque, budget);
        let signs = x.zip(to_expr(&y, &self.opaque, budget));
        let Some((x, y)) = signs else {
            return false;
        };
        let (p, q) = (self.sign(&x), self.sign(&y));
        p.is_some() && p != Some(Ordering::Equal) && (p == q) == is_same_sign
    }
}

fn difference(left: &Expr, right: &Expr) -> Expr {
    let negative = Expr::Product(vec![number(-1), right.clone()]);
    Expr::Sum(vec![left.clone(), negative])
}

/// Each link of a chain as an expression that is positive, or not negative.
fn links(first: &Value, rest: &[(Relation, Value)]) -> Option<Vec<(Expr, bool)>> {
    let expr = |value: &Value| match value {
        Value::Expr(expr) => Some(expr.clone()),
        _ => None,
    };
    let mut left = expr(first)?;
    let mut result = Vec::new();
    for (relation, side) in rest {
        let right = expr(side)?;
        let link = match relation {
            Relation::Less => (difference(&right, &left), true),
            Relation::LessEqual => (difference(&right, &left), false),
            Relation::Greater => (difference(&left, &right), true),
            Relation::GreaterEqual => (difference(&left, &right), false),
            _ => return None,
        };
        result.push(link);
        left = right;
    }
    Some(result)
}

fn is_algebraic(sides: &Sides) -> bool {
    sides.iter().all(|(names, poly)| {
        poly.as_constant().is_some() && names.iter().all(|(atom, _)| matches!(atom, Atom::Name(_)))
    })
}
