//! Quantities: percent signs, units, ratios, times, digits with a base.

use alloc::vec;

use dashu_int::IBig;
use dashu_ratio::RBig;

use crate::compare::is_true;
use crate::fold::number;
use crate::policy::{Base, Degrees, Percent, Units};
use crate::scalar::Comparer;
use crate::tree::{Expr, Function, Value};
use crate::verdict::Reason;

impl Comparer<'_> {
    /// Units, percent signs, ratios, times and digits with a base.
    pub(crate) fn quantities(&mut self, a: &Value, b: &Value) -> Option<Reason> {
        Some(match (a, b) {
            (Value::Percent(x), Value::Percent(y)) => self.exprs(x, y),
            (Value::Percent(x), Value::Expr(y)) => self.percent(x, y, true),
            (Value::Expr(x), Value::Percent(y)) => self.percent(y, x, false),
            (Value::Quantity(x, u), Value::Quantity(y, v)) if u == "degree" && v == "radian" => {
                self.exprs(&Expr::Apply(Function::Degree, vec![x.clone()]), y)
            }
            (Value::Quantity(x, u), Value::Quantity(y, v)) if u == "radian" && v == "degree" => {
                self.exprs(x, &Expr::Apply(Function::Degree, vec![y.clone()]))
            }
            (Value::Quantity(x, u), Value::Quantity(y, v)) => {
                let reason = self.exprs(x, y);
                if !is_true(reason) || same_unit(u, v) {
                    reason
                } else {
                    Reason::DifferentUnit
                }
            }
            (Value::Quantity(x, u), Value::Expr(y)) => self.one_unit(x, u, y, true),
            (Value::Expr(x), Value::Quantity(y, u)) => self.one_unit(y, u, x, false),
            (Value::Quantity(..), Value::Percent(_)) | (Value::Percent(_), Value::Quantity(..)) => {
                Reason::DifferentUnit
            }
            (Value::Ratio(x), Value::Ratio(y)) => self.ratios(x, y),
            (Value::Ratio(x), Value::Expr(y)) => self.ratio_value(x, y, true)?,
            (Value::Expr(x), Value::Ratio(y)) => self.ratio_value(y, x, false)?,
            (Value::Time(h, m, half), Value::Time(k, n, other)) => {
                if (h, m) == (k, n) && (half == other || half.is_empty() || other.is_empty()) {
                    Reason::EqualStructure
                } else {
                    Reason::DifferentPart
                }
            }
            (Value::Time(h, m, _), Value::Ratio(terms))
            | (Value::Ratio(terms), Value::Time(h, m, _)) => {
                let is_same = terms.as_slice() == [number(i64::from(*h)), number(i64::from(*m))];
                if is_same {
                    Reason::EqualStructure
                } else {
                    Reason::DifferentPart
                }
            }
            (Value::Based(x, p), Value::Based(y, q)) => self.two_based(x, *p, y, *q),
            (Value::Based(digits, base), Value::Expr(y))
            | (Value::Expr(y), Value::Based(digits, base)) => self.based(digits, *base, y),
            _ => return None,
        })
    }

    /// `p%` against a number without a sign.
    fn percent(&mut self, points: &Expr, other: &Expr, is_gold: bool) -> Reason {
        let hundredth = RBig::from_parts(IBig::ONE, 100u8.into());
        let fraction = match points {
            Expr::Decimal(decimal) => Expr::Decimal(decimal.scaled(-2)),
            Expr::Number(value) => Expr::Number(value * hundredth),
            other => Expr::Product(vec![Expr::Number(hundredth), other.clone()]),
        };
        let rule = self.policy.percent;
        let mut check = |value: &Expr| {
            if is_gold {
                self.exprs(value, other)
            } else {
                self.exprs(other, value)
            }
        };
        match rule {
            Percent::Exact => check(&fraction),
            Percent::Ignore => check(points),
            Percent::Either => match check(&fraction) {
                reason if is_true(reason) => reason,
                reason => match check(points) {
                    other if is_true(other) => other,
                    _ => reason,
                },
            },
        }
    }

    fn one_unit(&mut self, value: &Expr, unit: &str, other: &Expr, is_gold: bool) -> Reason {
        if self.policy.units == Units::Strict {
            return Reason::DifferentUnit;
        }
        let reason = if is_gold {
            self.exprs(value, other)
        } else {
            self.exprs(other, value)
        };
        if unit == "degree" && self.policy.degrees == Degrees::Convert && !is_true(reason) {
            let converted = Expr::Apply(Function::Degree, vec![value.clone()]);
            return if is_gold {
                self.exprs(&converted, other)
            } else {
                self.exprs(other, &converted)
            };
        }
        reason
    }

    fn ratios(&mut self, a: &[Expr], b: &[Expr]) -> Reason {
        if a.len() != b.len() {
            return Reason::DifferentSize;
        }
        let (Some(first), Some(other)) = (a.first(), b.first()) else {
            return Reason::InternalDefect;
        };
        let mut result = Reason::EqualStructure;
        for (x, y) in a.iter().zip(b) {
            let left = Expr::Product(vec![x.clone(), other.clone()]);
            let right = Expr::Product(vec![y.clone(), first.clone()]);
            let reason = self.exprs(&left, &right);
            if !is_true(reason) {
                result = if reason == Reason::Undecided {
                    reason
                } else {
                    Reason::DifferentPart
                };
            }
        }
        let is_zero = |terms: &[Expr]| {
            terms
                .iter()
                .all(|term| term.exact().is_some_and(RBig::is_zero))
        };
        if is_zero(a) != is_zero(b) {
            Reason::DifferentPart
        } else {
            result
        }
    }

    /// A ratio of two terms equals their quotient.
    fn ratio_value(&mut self, terms: &[Expr], other: &Expr, is_gold: bool) -> Option<Reason> {
        let [top, bottom] = terms else {
            return None;
        };
        if bottom.exact().is_some_and(RBig::is_zero) {
            return Some(Reason::DifferentKind);
        }
        let value = match (top.exact(), bottom.exact()) {
            (Some(top), Some(bottom)) => Expr::Number(top / bottom),
            _ => {
                let inverse = Expr::Power(
                    alloc::boxed::Box::new(bottom.clone()),
                    alloc::boxed::Box::new(number(-1)),
                );
                Expr::Product(vec![top.clone(), inverse])
            }
        };
        Some(if is_gold {
            self.exprs(&value, other)
        } else {
            self.exprs(other, &value)
        })
    }

    fn two_based(&mut self, a: &str, p: Option<u32>, b: &str, q: Option<u32>) -> Reason {
        if self.policy.base == Base::Value {
            let values = based_value(a, p).zip(based_value(b, q));
            return match values {
                Some((x, y)) if x == y => Reason::EqualNumber,
                _ => Reason::DifferentNumber,
            };
        }
        if a.trim_start_matches('0') == b.trim_start_matches('0') && p == q {
            Reason::EqualNumber
        } else {
            Reason::DifferentNumber
        }
    }

    fn based(&mut self, digits: &str, base: Option<u32>, other: &Expr) -> Reason {
        let Some(exact) = other.exact() else {
            return Reason::DifferentKind;
        };
        let value = match self.policy.base {
            Base::Value => based_value(digits, base),
            Base::Digits => based_value(digits, Some(10)),
        };
        if value.is_some_and(|value| RBig::from(value) == *exact) {
            Reason::EqualNumber
        } else {
            Reason::DifferentNumber
        }
    }
}

/// "Units" of nothing in particular agree with any unit.
fn same_unit(a: &str, b: &str) -> bool {
    let is_general = |unit: &str| matches!(unit, "unit" | "unit^2" | "unit^3");
    a == b || is_general(a) || is_general(b)
}

fn based_value(digits: &str, base: Option<u32>) -> Option<IBig> {
    IBig::from_str_radix(digits, base.unwrap_or(10)).ok()
}
