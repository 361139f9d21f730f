//! Members of structures against each other: in order, in any order, as sets.

use alloc::vec;
use alloc::vec::Vec;

use crate::budget::Budget;
use crate::compare::is_true;
use crate::policy::BareList;
use crate::scalar::Comparer;
use crate::tree::Value;
use crate::verdict::Reason;

impl Comparer<'_> {
    pub(crate) fn part(&mut self, a: &Value, b: &Value) -> Reason {
        match self.values(a, b) {
            reason if is_true(reason) => Reason::EqualStructure,
            Reason::Undecided => Reason::Undecided,
            Reason::InternalDefect => Reason::InternalDefect,
            _ => Reason::DifferentPart,
        }
    }

    pub(crate) fn in_order_of(&mut self, pairs: &[(&Value, &Value)]) -> Reason {
        let mut result = Reason::EqualStructure;
        for (x, y) in pairs {
            match self.part(x, y) {
                Reason::EqualStructure => {}
                Reason::Undecided => result = Reason::Undecided,
                reason => return reason,
            }
        }
        result
    }

    pub(crate) fn in_order(&mut self, a: &[Value], b: &[Value]) -> Reason {
        if a.len() != b.len() {
            return Reason::DifferentSize;
        }
        let pairs: Vec<(&Value, &Value)> = a.iter().zip(b).collect();
        self.in_order_of(&pairs)
    }

    pub(crate) fn two_lists(&mut self, a: &[Value], b: &[Value]) -> Reason {
        if self.policy.bare_list == BareList::Ordered {
            return self.in_order(a, b);
        }
        self.matching_sizes(a, b)
    }

    pub(crate) fn matching_sizes(&mut self, a: &[Value], b: &[Value]) -> Reason {
        if a.len() == b.len() {
            self.matching(a, b)
        } else {
            Reason::DifferentSize
        }
    }

    /// Members in any order, repeated ones merged.
    pub(crate) fn sets(&mut self, a: &[Value], b: &[Value]) -> Reason {
        let (a, b) = (self.distinct(a), self.distinct(b));
        if a.len() != b.len() {
            return Reason::DifferentSize;
        }
        self.matching(&a, &b)
    }

    pub(crate) fn distinct(&mut self, members: &[Value]) -> Vec<Value> {
        let mut kept: Vec<Value> = Vec::new();
        for member in members {
            let is_known = kept.contains(member)
                || kept.iter().any(|known| is_true(self.values(known, member)));
            if !is_known {
                kept.push(member.clone());
            }
        }
        kept
    }

    /// A one-to-one matching; augmenting paths, because equality need not be transitive.
    pub(crate) fn matching(&mut self, a: &[Value], b: &[Value]) -> Reason {
        let mut edges: Vec<Vec<usize>> = Vec::new();
        let mut is_open = false;
        for x in a {
            let mut row = Vec::new();
            for (index, y) in b.iter().enumerate() {
                match self.values(x, y) {
                    reason if is_true(reason) => row.push(index),
                    Reason::Undecided => is_open = true,
                    _ => {}
                }
            }
            edges.push(row);
        }
        let mut partner: Vec<Option<usize>> = vec![None; b.len()];
        for start in 0..a.len() {
            let mut seen = vec![false; b.len()];
            let budget = &mut self.evaluator.budget;
            if !augment(start, &edges, &mut partner, &mut seen, 0, budget) {
                return if is_open {
                    Reason::Undecided
                } else {
                    Reason::DifferentPart
                };
            }
        }
        Reason::EqualStructure
    }

    pub(crate) fn matrices(&mut self, a: &[Vec<Value>], b: &[Vec<Value>]) -> Reason {
        if a.len() != b.len() || a.iter().zip(b).any(|(x, y)| x.len() != y.len()) {
            return Reason::DifferentSize;
        }
        let pairs: Vec<(&Value, &Value)> = a.iter().flatten().zip(b.iter().flatten()).collect();
        self.in_order_of(&pairs)
    }

    /// A column or a row against a tuple.
    pub(crate) fn vector(
        &mut self,
        matrix: &[Vec<Value>],
        tuple: &[Value],
        is_gold: bool,
    ) -> Reason {
        let is_vector = matrix.len() == 1 || matrix.iter().all(|row| row.len() == 1);
        if !is_vector {
            return Reason::DifferentKind;
        }
        let members: Vec<Value> = matrix.iter().flatten().cloned().collect();
        if is_gold {
            self.in_order(&members, tuple)
        } else {
            self.in_order(tuple, &members)
        }
    }
}

fn augment(
    node: usize,
    edges: &[Vec<usize>],
    partner: &mut Vec<Option<usize>>,
    seen: &mut Vec<bool>,
    depth: usize,
    budget: &mut Budget,
) -> bool {
    // Paths are no longer than the larger side, which the limit of members bounds.
    if depth > edges.len() {
        return false;
    }
    let Some(row) = edges.get(node) else {
        return false;
    };
    if budget.charge_each(row.len(), 2).is_err() {
        return false;
    }
    for &target in row {
        let Some(mark) = seen.get_mut(target) else {
            continue;
        };
        if core::mem::replace(mark, true) {
            continue;
        }
        let current = partner.get(target).copied().flatten();
        let is_free = match current {
            None => true,
            Some(other) => {
                let depth = depth.saturating_add(1);
                augment(other, edges, partner, seen, depth, budget)
            }
        };
        if is_free {
            if let Some(slot) = partner.get_mut(target) {
                *slot = Some(node);
            }
            return true;
        }
    }
    false
}
