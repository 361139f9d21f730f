//! The equality ladder for whole answers: readings, kinds, structures part by part.

use alloc::vec;
use alloc::vec::Vec;

use crate::budget::Budget;
use crate::parse::{Answer, Reading, Sense};
use crate::policy::{Assignment, IntervalRelation, Policy};
use crate::scalar::Comparer;
use crate::tree::{Expr, Joint, Relation, SetOp, Value};
use crate::verdict::Reason;

pub(crate) fn is_true(reason: Reason) -> bool {
    reason.correct() == Some(true)
}

/// Compares two answers; the first is the reference answer. Which comes first changes neither the
/// reason nor the steps, unless the policy has a switch that is not symmetric: the two are brought
/// into one order, because a ladder that ends with its steps would see other parts otherwise.
pub(crate) fn compare(
    gold: &Answer,
    answer: &Answer,
    policy: &Policy,
    budget: &mut Budget,
) -> Reason {
    if gold.text == answer.text {
        return Reason::EqualText;
    }
    let is_swapped = policy.is_symmetric() && answer.text < gold.text;
    let (first, second) = if is_swapped {
        (answer, gold)
    } else {
        (gold, answer)
    };
    let mut comparer = Comparer::new(policy, budget.part(u64::MAX));
    let reason = readings(first, second, &mut comparer);
    let is_spent = comparer.evaluator.budget.has_failed();
    budget.refund(&comparer.evaluator.budget);
    // What was not compared for want of steps is no difference.
    if is_spent && !is_true(reason) {
        return Reason::Undecided;
    }
    reason
}

/// The first pair of readings that is equal, or else what the first pair says.
fn readings(gold: &Answer, answer: &Answer, comparer: &mut Comparer<'_>) -> Reason {
    let mut first = None;
    for left in &gold.readings {
        for right in &answer.readings {
            if !may_meet(left, right, gold, answer) {
                continue;
            }
            let reason = comparer.values(&left.value, &right.value);
            if is_true(reason) {
                return reason;
            }
            first.get_or_insert(reason);
        }
    }
    first.unwrap_or(Reason::DifferentKind)
}

/// Where both sides carry the same ambiguity, only like readings meet.
fn may_meet(left: &Reading, right: &Reading, gold: &Answer, answer: &Answer) -> bool {
    let is_joined = |reading: &Reading| reading.sense == Sense::JoinedUnit;
    let is_quantity = |reading: &Reading| matches!(reading.value, Value::Quantity(..));
    if (is_joined(left) && !is_quantity(right)) || (is_joined(right) && !is_quantity(left)) {
        return false;
    }
    left.sense == right.sense || !(is_shared(left, gold, answer) || is_shared(right, gold, answer))
}

/// True if the ambiguity of a reading exists on both sides.
fn is_shared(reading: &Reading, gold: &Answer, answer: &Answer) -> bool {
    reading.sense != Sense::Plain
        && [gold, answer]
            .iter()
            .all(|side| side.readings.iter().any(|it| it.sense == reading.sense))
}

impl Comparer<'_> {
    /// The ladder for two values; the first is the reference answer's.
    pub(crate) fn values(&mut self, a: &Value, b: &Value) -> Reason {
        if self.evaluator.budget.charge(10).is_err() {
            return Reason::Undecided;
        }
        if let (Value::Expr(x), Value::Expr(y)) = (a, b) {
            return self.exprs(x, y);
        }
        if let Some(reason) = self
            .bound(a, b)
            .or_else(|| self.quantities(a, b))
            .or_else(|| self.plain(a, b))
        {
            return reason;
        }
        if let Some(reason) = self.regions(a, b) {
            return reason;
        }
        self.structures(a, b)
    }

    /// Names bound to values.
    fn bound(&mut self, a: &Value, b: &Value) -> Option<Reason> {
        match (a, b) {
            (Value::Assign(n, x), Value::Assign(m, y)) => {
                if same_name(n, m) {
                    return Some(self.values(x, y));
                }
                let equation = self.equation_of(a).zip(self.equation_of(b));
                if let Some((left, right)) = equation
                    && !(Self::is_constant_value(x) && Self::is_constant_value(y))
                    && is_true(self.equations(&left, &right))
                {
                    return Some(Reason::EqualForm);
                }
                Some(Reason::DifferentPart)
            }
            (Value::Assign(..), Value::Chain(..)) | (Value::Chain(..), Value::Assign(..)) => {
                let pair = self.equation_of(a).zip(self.equation_of(b));
                pair.map(|(left, right)| self.equations(&left, &right))
            }
            (Value::Assign(_, x), other) if !is_bindings(other) => {
                Some(self.unbound(x, other, true))
            }
            (other, Value::Assign(_, y)) if !is_bindings(other) => {
                Some(self.unbound(y, other, false))
            }
            _ => None,
        }
    }

    fn unbound(&mut self, value: &Value, other: &Value, is_gold: bool) -> Reason {
        if self.policy.assignment == Assignment::Keep
            && matches!(value, Value::Expr(_) | Value::Quantity(..))
        {
            return Reason::DifferentKind;
        }
        if is_gold {
            self.values(value, other)
        } else {
            self.values(other, value)
        }
    }

    fn is_constant_value(value: &Value) -> bool {
        matches!(value, Value::Expr(expr) if Self::is_constant(expr))
    }

    /// Texts and choices.
    fn plain(&mut self, a: &Value, b: &Value) -> Option<Reason> {
        Some(match (a, b) {
            (Value::Text(x), Value::Text(y)) => {
                if x == y {
                    Reason::EqualText
                } else {
                    Reason::DifferentText
                }
            }
            (Value::Choice(x), Value::Choice(y)) => {
                if x == y {
                    Reason::EqualText
                } else {
                    Reason::DifferentText
                }
            }
            (Value::Choice(x), Value::Expr(Expr::Name(name)))
            | (Value::Expr(Expr::Name(name)), Value::Choice(x)) => {
                if is_letter(name, *x) {
                    Reason::EqualText
                } else {
                    Reason::DifferentText
                }
            }
            (Value::Text(_) | Value::Choice(_), _) | (_, Value::Text(_) | Value::Choice(_)) => {
                Reason::DifferentKind
            }
            _ => return None,
        })
    }

    /// Intervals, inequalities and operations on sets as sets of real numbers.
    fn regions(&mut self, a: &Value, b: &Value) -> Option<Reason> {
        let is_set = |value: &Value| {
            matches!(
                value,
                Value::Group(..) | Value::NumberSet('R') | Value::SetOp(..) | Value::Chain(..)
            ) || matches!(value, Value::List(_, members) if members.iter().any(|m| matches!(m, Value::Chain(..))))
                || matches!(value, Value::List(Joint::Or | Joint::And, members) if members.iter().all(|m| matches!(m, Value::Group(..))))
        };
        let is_tuple = |value: &Value| matches!(value, Value::Group(..));
        if !is_set(a) && !is_set(b) || is_tuple(a) && is_tuple(b) {
            return None;
        }
        let (left, right) = (self.region(a)?, self.region(b)?);
        let (is_relation_a, is_relation_b) = (is_relation(a), is_relation(b));
        if is_relation_a != is_relation_b {
            let is_refused = match self.policy.interval_relation {
                IntervalRelation::Equal => false,
                IntervalRelation::Distinct => true,
                IntervalRelation::GoldRelation => !is_relation_a,
            };
            if is_refused {
                return Some(Reason::DifferentKind);
            }
        }
        let names_differ =
            matches!((&left.variable, &right.variable), (Some(x), Some(y)) if x != y);
        Some(if !names_differ && self.same_region(&left, &right) {
            Reason::EqualStructure
        } else {
            Reason::DifferentPart
        })
    }

    fn structures(&mut self, a: &Value, b: &Value) -> Reason {
        match (a, b) {
            (Value::Group(o, x, c), Value::Group(p, y, d)) => {
                let is_pair = x.len() == 2 && y.len() == 2;
                let bracket = |c: char| {
                    if c == '<' {
                        '('
                    } else if c == '>' {
                        ')'
                    } else {
                        c
                    }
                };
                if is_pair && (bracket(*o), bracket(*c)) != (bracket(*p), bracket(*d)) {
                    return Reason::DifferentPart;
                }
                self.in_order(x, y)
            }
            (Value::Group(_, x, _), Value::List(_, y))
            | (Value::List(_, y), Value::Group(_, x, _))
                if y.iter().any(|member| matches!(member, Value::Assign(..))) =>
            {
                let is_first = matches!(a, Value::Group(..));
                let values: Vec<Value> = y.iter().map(|member| unbind(member).clone()).collect();
                if is_first {
                    self.in_order(x, &values)
                } else {
                    self.in_order(&values, x)
                }
            }
            (Value::Group(_, x, _), Value::List(_, y))
            | (Value::List(_, x), Value::Group(_, y, _)) => self.in_order(x, y),
            (Value::List(_, x), Value::List(_, y)) => self.two_lists(x, y),
            (Value::Set(x), Value::Set(y)) => self.sets(x, y),
            (Value::Set(x), Value::List(_, y)) | (Value::List(_, x), Value::Set(y)) => {
                self.sets(x, y)
            }
            (Value::Set(x), other @ (Value::Expr(_) | Value::Group(..) | Value::Quantity(..))) => {
                match x.as_slice() {
                    [only] => self.values(only, other),
                    _ => Reason::DifferentKind,
                }
            }
            (other @ (Value::Expr(_) | Value::Group(..) | Value::Quantity(..)), Value::Set(y)) => {
                match y.as_slice() {
                    [only] => self.values(other, only),
                    _ => Reason::DifferentKind,
                }
            }
            (Value::Matrix(x), Value::Matrix(y)) => self.matrices(x, y),
            (Value::Matrix(x), Value::Group(_, y, _)) => self.vector(x, y, true),
            (Value::Group(_, x, _), Value::Matrix(y)) => self.vector(y, x, false),
            (Value::NumberSet(x), Value::NumberSet(y)) => {
                if x == y {
                    Reason::EqualText
                } else {
                    Reason::DifferentPart
                }
            }
            (Value::SetOp(p, ..), Value::SetOp(q, ..)) if p == q => self.set_operations(*p, a, b),
            (Value::Chain(..), Value::Chain(..)) => self.chains(a, b),
            (Value::Conditional(x, c), Value::Conditional(y, d)) => {
                self.in_order_of(&[(x, y), (c, d)])
            }
            // A condition behind a comma.
            (Value::Conditional(x, c), Value::List(_, y)) => {
                self.matching_sizes(&[(**x).clone(), (**c).clone()], y)
            }
            (Value::List(_, x), Value::Conditional(y, c)) => {
                self.matching_sizes(x, &[(**y).clone(), (**c).clone()])
            }
            (Value::Quantified(p, x), Value::Quantified(q, y)) => {
                if p != q {
                    Reason::DifferentPart
                } else {
                    self.part(x, y)
                }
            }
            _ => Reason::DifferentKind,
        }
    }

    fn set_operations(&mut self, operation: SetOp, a: &Value, b: &Value) -> Reason {
        let (left, right) = (operands(operation, a), operands(operation, b));
        if left.len() != right.len() {
            return Reason::DifferentSize;
        }
        if operation == SetOp::Difference {
            self.in_order(&left, &right)
        } else {
            self.matching(&left, &right)
        }
    }

    fn chains(&mut self, a: &Value, b: &Value) -> Reason {
        if let Some((left, right)) = self.equation_of(a).zip(self.equation_of(b)) {
            return self.equations(&left, &right);
        }
        let (Value::Chain(first, rest), Value::Chain(other, others)) = (a, b) else {
            return Reason::DifferentKind;
        };
        if let Some(reason) = self.inequalities(first, rest, other, others) {
            return reason;
        }
        let forward = self.same_chain(first, rest, other, others);
        if is_true(forward) {
            return forward;
        }
        let (flipped, flipped_rest) = reversed(other, others);
        match self.same_chain(first, rest, &flipped, &flipped_rest) {
            reason if is_true(reason) => reason,
            _ => forward,
        }
    }

    fn same_chain(
        &mut self,
        a: &Value,
        rest: &[(Relation, Value)],
        b: &Value,
        others: &[(Relation, Value)],
    ) -> Reason {
        if rest.len() != others.len() {
            return Reason::DifferentSize;
        }
        if rest.iter().zip(others).any(|((p, _), (q, _))| p != q) {
            return Reason::DifferentPart;
        }
        let mut pairs = vec![(a, b)];
        pairs.extend(rest.iter().zip(others).map(|((_, x), (_, y))| (x, y)));
        self.in_order_of(&pairs)
    }
}

fn is_letter(name: &str, letter: char) -> bool {
    let mut chars = name.chars();
    chars.next() == Some(letter) && chars.next().is_none()
}

fn is_bindings(value: &Value) -> bool {
    matches!(value, Value::List(_, members) if members.iter().any(|member| matches!(member, Value::Assign(..))))
}

/// The value of a binding.
fn unbind(value: &Value) -> &Value {
    match value {
        Value::Assign(_, inner) => inner,
        other => other,
    }
}

/// Names as written, apart from blanks and case in words.
fn same_name(a: &str, b: &str) -> bool {
    let is_word = |name: &str| {
        name.chars().nth(1).is_some() && name.chars().all(|c| c.is_alphabetic() || c == ' ')
    };
    // The graph of a function of x is written `y = …` or `f(x) = …`.
    let is_graph = |a: &str, b: &str| a == "y" && b.ends_with("(x)");
    a == b
        || is_graph(a, b)
        || is_graph(b, a)
        || (is_word(a) && is_word(b) && a.to_lowercase() == b.to_lowercase())
}

/// True for an inequality, and a list that holds one.
fn is_relation(value: &Value) -> bool {
    match value {
        Value::Chain(..) => true,
        Value::List(_, members) => members.iter().any(is_relation),
        _ => false,
    }
}

fn operands(operation: SetOp, value: &Value) -> Vec<Value> {
    match value {
        Value::SetOp(found, left, right) if *found == operation => {
            let mut parts = operands(operation, left);
            if operation == SetOp::Difference {
                parts.push((**right).clone());
            } else {
                parts.extend(operands(operation, right));
            }
            parts
        }
        other => vec![other.clone()],
    }
}

fn reversed(first: &Value, rest: &[(Relation, Value)]) -> (Value, Vec<(Relation, Value)>) {
    let mut sides = vec![first];
    sides.extend(rest.iter().map(|(_, side)| side));
    let mut relations: Vec<Relation> = rest
        .iter()
        .map(|(relation, _)| relation.flipped())
        .collect();
    relations.reverse();
    sides.reverse();
    let mut sides = sides.into_iter().cloned();
    let start = sides.next().unwrap_or_else(|| first.clone());
    (start, relations.into_iter().zip(sides).collect())
}
