//! Sets of real numbers as unions of intervals: from brackets, inequalities and set operations.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::scalar::Comparer;
use crate::tree::{Expr, Joint, Relation, SetOp, Value};

/// An end of an interval; infinite without a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) value: Option<Expr>,
    pub(crate) is_closed: bool,
}

/// An interval.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) low: End,
    pub(crate) high: End,
}

/// Disjoint intervals in order, and the variable whose values they are, if one is named.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) variable: Option<String>,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) fn open() -> End {
    End {
        value: None,
        is_closed: false,
    }
}

pub(crate) fn all() -> Piece {
    Piece {
        low: open(),
        high: open(),
    }
}

/// True if a value restricts a name: an order relation or a membership that mentions it.
pub(crate) fn constrains(value: &Value, name: &str) -> bool {
    match value {
        Value::Chain(first, rest) => {
            let is_name = |value: &Value| matches!(value, Value::Expr(expr) if crate::points::any(expr, &|part| matches!(part, Expr::Name(n) if n == name)));
            rest.iter().all(|(relation, _)| {
                relation.is_order() || matches!(relation, Relation::NotEqual | Relation::In)
            }) && (is_name(first) || rest.iter().any(|(_, side)| is_name(side)))
        }
        Value::List(_, members) => members.iter().all(|member| constrains(member, name)),
        _ => false,
    }
}

impl Comparer<'_> {
    /// The set of real numbers that a value describes, if it does.
    pub(crate) fn region(&mut self, value: &Value) -> Option<Region> {
        let plain = |pieces: Vec<Piece>| Region {
            variable: None,
            pieces,
        };
        let region = match value {
            Value::Group(start, members, end) => plain(vec![interval(*start, members, *end)?]),
            Value::NumberSet('R') => plain(vec![all()]),
            Value::Set(members) => {
                let mut pieces = Vec::new();
                for member in members {
                    pieces.push(point(member)?);
                }
                plain(pieces)
            }
            Value::SetOp(operation, left, right) => {
                let left = self.region(left)?;
                let right = self.region(right)?;
                Region {
                    variable: None,
                    pieces: self.combine(*operation, left.pieces, right.pieces)?,
                }
            }
            Value::Assign(name, inner) => {
                let inner = match inner.as_ref() {
                    Value::Expr(_) => plain(vec![point(inner)?]),
                    other => self.region(other)?,
                };
                Region {
                    variable: Some(name.clone()),
                    pieces: inner.pieces,
                }
            }
            Value::Chain(first, rest) => self.solved(first, rest)?,
            Value::List(joint, members) => self.joined(*joint, members)?,
            _ => return None,
        };
        let pieces = self.normalised(region.pieces)?;
        Some(Region { pieces, ..region })
    }

    fn joined(&mut self, joint: Joint, members: &[Value]) -> Option<Region> {
        let has_relation = members
            .iter()
            .any(|member| matches!(member, Value::Chain(..) | Value::Assign(..)));
        if !has_relation
            && joint != Joint::Or
            && !members.iter().all(|m| matches!(m, Value::Group(..)))
        {
            return None;
        }
        let mut result: Option<Region> = None;
        let mut meet: Option<Vec<Piece>> = None;
        for member in members {
            let region = self.region(member)?;
            match &mut result {
                None => {
                    meet = Some(region.pieces.clone());
                    result = Some(region);
                }
                Some(known) => {
                    if known.variable != region.variable
                        && known.variable.is_some()
                        && region.variable.is_some()
                    {
                        return None;
                    }
                    meet = Some(self.combine(SetOp::Intersection, meet?, region.pieces.clone())?);
                    known.pieces = self.combine(
                        SetOp::Union,
                        core::mem::take(&mut known.pieces),
                        region.pieces,
                    )?;
                }
            }
        }
        let union = result?;
        let is_everything = union.pieces.as_slice() == [all()];
        // "x > 1 and x < 3"; a comma means "and" only where "or" would say nothing.
        let is_meet =
            has_relation && (joint == Joint::And || (joint == Joint::Comma && is_everything));
        let meet = meet?;
        if is_meet && !(meet.is_empty() && joint != Joint::And) && !meet.is_empty() {
            return Some(Region {
                pieces: meet,
                ..union
            });
        }
        Some(union)
    }

    pub(crate) fn combine(
        &mut self,
        operation: SetOp,
        left: Vec<Piece>,
        right: Vec<Piece>,
    ) -> Option<Vec<Piece>> {
        if left.len().saturating_mul(right.len()) > 1024 {
            return None;
        }
        match operation {
            SetOp::Union => self.normalised(left.into_iter().chain(right).collect()),
            SetOp::Intersection => {
                let mut pieces = Vec::new();
                for a in &left {
                    for b in &right {
                        pieces.push(Piece {
                            low: self.later(&a.low, &b.low, true)?,
                            high: self.later(&a.high, &b.high, false)?,
                        });
                    }
                }
                self.normalised(pieces)
            }
            SetOp::Difference => {
                let mut pieces = left;
                for cut in right {
                    let before = Piece {
                        low: open(),
                        high: End {
                            is_closed: !cut.low.is_closed && cut.low.value.is_some(),
                            ..cut.low.clone()
                        },
                    };
                    let after = Piece {
                        low: End {
                            is_closed: !cut.high.is_closed && cut.high.value.is_some(),
                            ..cut.high.clone()
                        },
                        high: open(),
                    };
                    let mut rest = Vec::new();
                    if cut.low.value.is_some() {
                        rest.push(before);
                    }
                    if cut.high.value.is_some() {
                        rest.push(after);
                    }
                    pieces = self.combine(SetOp::Intersection, pieces, rest)?;
                }
                Some(pieces)
            }
        }
    }

    /// The end that restricts more.
    fn later(&mut self, a: &End, b: &End, is_low: bool) -> Option<End> {
        let (x, y) = match (&a.value, &b.value) {
            (None, _) => return Some(b.clone()),
            (_, None) => return Some(a.clone()),
            (Some(x), Some(y)) => (x, y),
        };
        Some(match self.order(x, y)? {
            Ordering::Equal => End {
                value: a.value.clone(),
                is_closed: a.is_closed && b.is_closed,
            },
            Ordering::Greater if is_low => a.clone(),
            Ordering::Less if !is_low => a.clone(),
            _ => b.clone(),
        })
    }

    /// Sorted, without empty pieces, touching ones merged.
    fn normalised(&mut self, pieces: Vec<Piece>) -> Option<Vec<Piece>> {
        let mut kept: Vec<Piece> = Vec::new();
        for piece in pieces {
            if self.is_empty(&piece)? {
                continue;
            }
            let mut place = 0usize;
            for (index, other) in kept.iter().enumerate() {
                if self.starts_before(&other.low, &piece.low)? {
                    place = index.saturating_add(1);
                }
            }
            kept.insert(place, piece);
        }
        let mut merged: Vec<Piece> = Vec::new();
        for piece in kept {
            if let Some(last) = merged.last().cloned()
                && self.touches(&last.high, &piece.low)?
            {
                let high = self.wider(&last.high, &piece.high)?;
                if let Some(last) = merged.last_mut() {
                    last.high = high;
                }
                continue;
            }
            merged.push(piece);
        }
        Some(merged)
    }

    fn is_empty(&mut self, piece: &Piece) -> Option<bool> {
        let (Some(low), Some(high)) = (&piece.low.value, &piece.high.value) else {
            return Some(false);
        };
        Some(match self.order(low, high)? {
            Ordering::Less => false,
            Ordering::Equal => !(piece.low.is_closed && piece.high.is_closed),
            Ordering::Greater => true,
        })
    }

    fn starts_before(&mut self, a: &End, b: &End) -> Option<bool> {
        let (x, y) = match (&a.value, &b.value) {
            (None, _) => return Some(true),
            (_, None) => return Some(false),
            (Some(x), Some(y)) => (x, y),
        };
        Some(match self.order(x, y)? {
            Ordering::Less => true,
            Ordering::Equal => a.is_closed || !b.is_closed,
            Ordering::Greater => false,
        })
    }

    fn touches(&mut self, high: &End, low: &End) -> Option<bool> {
        let (Some(x), Some(y)) = (&high.value, &low.value) else {
            return Some(true);
        };
        Some(match self.order(x, y)? {
            Ordering::Less => false,
            Ordering::Equal => high.is_closed || low.is_closed,
            Ordering::Greater => true,
        })
    }

    fn wider(&mut self, a: &End, b: &End) -> Option<End> {
        let (x, y) = match (&a.value, &b.value) {
            (None, _) | (_, None) => return Some(open()),
            (Some(x), Some(y)) => (x, y),
        };
        Some(match self.order(x, y)? {
            Ordering::Less => b.clone(),
            Ordering::Greater => a.clone(),
            Ordering::Equal => End {
                value: a.value.clone(),
                is_closed: a.is_closed || b.is_closed,
            },
        })
    }

    /// True if both regions are the same set.
    pub(crate) fn same_region(&mut self, a: &Region, b: &Region) -> bool {
        a.pieces.len() == b.pieces.len()
            && a.pieces
                .iter()
                .zip(&b.pieces)
                .all(|(x, y)| self.same_end(&x.low, &y.low) && self.same_end(&x.high, &y.high))
    }

    fn same_end(&mut self, a: &End, b: &End) -> bool {
        match (&a.value, &b.value) {
            (None, None) => true,
            (Some(x), Some(y)) => {
                a.is_closed == b.is_closed && self.exprs(x, y).correct() == Some(true)
            }
            _ => false,
        }
    }
}

pub(crate) fn as_expr(value: &Value) -> Option<&Expr> {
    match value {
        Value::Expr(expr) => Some(expr),
        _ => None,
    }
}

fn point(member: &Value) -> Option<Piece> {
    let expr = as_expr(member).filter(|expr| Comparer::is_constant(expr))?;
    let end = End {
        value: Some(expr.clone()),
        is_closed: true,
    };
    Some(Piece {
        low: end.clone(),
        high: end,
    })
}

fn interval(start: char, members: &[Value], end: char) -> Option<Piece> {
    let (low, high) = match members {
        [Value::Expr(low), Value::Expr(high)] if start != '<' => (low, high),
        _ => return None,
    };
    let make = |expr: &Expr, is_low: bool, is_closed: bool| {
        if expr.is_infinite() {
            let is_minus = *expr != Expr::Infinity;
            return (is_minus == is_low).then(open);
        }
        Comparer::is_constant(expr).then(|| End {
            value: Some(expr.clone()),
            is_closed,
        })
    };
    Some(Piece {
        low: make(low, true, start == '[')?,
        high: make(high, false, end == ']')?,
    })
}
