//! Order relations in one variable, solved where they are linear in it or in its absolute value.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use dashu_ratio::RBig;

use crate::canon::{Atom, Poly, to_expr};
use crate::fold::number;
use crate::region::{End, Piece, Region, all, as_expr, open};
use crate::scalar::Comparer;
use crate::tree::{Expr, Function, Relation, SetOp, Value};

impl Comparer<'_> {
    /// Order relations in one variable, linear in it.
    pub(crate) fn solved(&mut self, first: &Value, rest: &[(Relation, Value)]) -> Option<Region> {
        let mut left = as_expr(first)?;
        let mut variable: Option<String> = None;
        let mut pieces = vec![all()];
        for (relation, right) in rest {
            if !(relation.is_order() || *relation == Relation::NotEqual) {
                return None;
            }
            let right = as_expr(right)?;
            let (name, next) = self.one_relation(left, *relation, right)?;
            if variable.as_ref().is_some_and(|known| *known != name) {
                return None;
            }
            variable = Some(name);
            pieces = self.combine(SetOp::Intersection, pieces, next)?;
            left = right;
        }
        Some(Region { variable, pieces })
    }

    fn one_relation(
        &mut self,
        left: &Expr,
        relation: Relation,
        right: &Expr,
    ) -> Option<(String, Vec<Piece>)> {
        if let Expr::Apply(Function::Abs, inner) = left
            && let [inner] = inner.as_slice()
            && Self::is_constant(right)
        {
            return self.absolute(inner, relation, right);
        }
        if let Expr::Apply(Function::Abs, _) = right
            && Self::is_constant(left)
        {
            return self.one_relation(right, relation.flipped(), left);
        }
        let (name, bound, is_flipped) = match (left, right) {
            (Expr::Name(name), bound) if is_bound(bound) => (name.clone(), bound.clone(), false),
            (bound, Expr::Name(name)) if is_bound(bound) => (name.clone(), bound.clone(), true),
            _ => self.linear(left, right)?,
        };
        let relation = if is_flipped {
            relation.flipped()
        } else {
            relation
        };
        Some((name, self.half_line(relation, bound)))
    }

    fn absolute(
        &mut self,
        inner: &Expr,
        relation: Relation,
        right: &Expr,
    ) -> Option<(String, Vec<Piece>)> {
        let negative = Expr::Product(vec![number(-1), right.clone()]);
        let (name, upper) = self.one_relation(inner, relation, right)?;
        let (_, lower) = self.one_relation(inner, relation.flipped(), &negative)?;
        let operation = match relation {
            Relation::Less | Relation::LessEqual | Relation::NotEqual => SetOp::Intersection,
            _ => SetOp::Union,
        };
        let lower = if relation == Relation::NotEqual {
            self.one_relation(inner, relation, &negative)?.1
        } else {
            lower
        };
        Some((name, self.combine(operation, upper, lower)?))
    }

    fn half_line(&self, relation: Relation, bound: Expr) -> Vec<Piece> {
        let is_infinite = bound.is_infinite();
        let end = |is_closed: bool| End {
            value: Some(bound.clone()).filter(|_| !is_infinite),
            is_closed,
        };
        match relation {
            Relation::Less => vec![Piece {
                low: open(),
                high: end(false),
            }],
            Relation::LessEqual => vec![Piece {
                low: open(),
                high: end(true),
            }],
            Relation::Greater => vec![Piece {
                low: end(false),
                high: open(),
            }],
            Relation::GreaterEqual => vec![Piece {
                low: end(true),
                high: open(),
            }],
            _ => vec![
                Piece {
                    low: open(),
                    high: end(false),
                },
                Piece {
                    low: end(false),
                    high: open(),
                },
            ],
        }
    }

    /// Solves a linear relation for its only name: the bound, and whether the direction turns.
    fn linear(&mut self, left: &Expr, right: &Expr) -> Option<(String, Expr, bool)> {
        let mut canon = self.canon();
        let (left, right) = (canon.form(left).ok()?, canon.form(right).ok()?);
        let (p, q) = (left.bottom.as_constant()?, right.bottom.as_constant()?);
        if p.is_zero() || q.is_zero() {
            return None;
        }
        let mut rest = Poly::default();
        let mut slope = Poly::default();
        let mut name: Option<String> = None;
        let sides = [(&left.top, RBig::ONE / p), (&right.top, RBig::NEG_ONE / q)];
        for (poly, factor) in sides {
            for (monomial, coefficient) in &poly.0 {
                let names: Vec<(&String, u32)> = monomial
                    .iter()
                    .filter_map(|(atom, n)| {
                        if let Atom::Name(name) = atom {
                            Some((name, *n))
                        } else {
                            None
                        }
                    })
                    .collect();
                let value = coefficient * &factor;
                match names.as_slice() {
                    [] => add_term(&mut rest, monomial.clone(), value),
                    [(found, 1)] if name.as_ref().is_none_or(|known| known == *found) => {
                        name = Some((*found).clone());
                        let others = monomial
                            .iter()
                            .filter(|(atom, _)| !matches!(atom, Atom::Name(_)))
                            .cloned();
                        add_term(&mut slope, others.collect(), value);
                    }
                    _ => return None,
                }
            }
        }
        let slope = self.formula(&slope)?;
        let is_flipped = match self.sign(&slope)? {
            Ordering::Greater => false,
            Ordering::Less => true,
            Ordering::Equal => return None,
        };
        let inverse = Expr::Power(
            alloc::boxed::Box::new(slope),
            alloc::boxed::Box::new(number(-1)),
        );
        let bound = Expr::Product(vec![number(-1), self.formula(&rest)?, inverse]);
        Some((name?, self.simplest(bound), is_flipped))
    }

    fn formula(&mut self, poly: &Poly) -> Option<Expr> {
        to_expr(poly, &self.opaque, &mut self.evaluator.budget)
    }

    /// A rational constant as a number.
    fn simplest(&mut self, expr: Expr) -> Expr {
        let form = self.canon().form(&expr);
        match form.map(|form| (form.top.as_constant(), form.bottom.as_constant())) {
            Ok((Some(top), Some(bottom))) if !bottom.is_zero() => Expr::Number(top / bottom),
            _ => expr,
        }
    }
}

fn add_term(poly: &mut Poly, monomial: Vec<(Atom, u32)>, value: RBig) {
    let sum = poly.0.remove(&monomial).unwrap_or(RBig::ZERO) + value;
    if !sum.is_zero() {
        poly.0.insert(monomial, sum);
    }
}

fn is_bound(expr: &Expr) -> bool {
    expr.is_infinite() || Comparer::is_constant(expr)
}
