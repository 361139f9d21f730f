//! The step counter: work is bounded by counted steps, never by a clock.
//!
//! A step is meant to take a few nanoseconds at most. A product of two machine words takes one, and
//! so does a byte that is looked at; whatever takes memory costs [`OVERHEAD`] more. The charges are
//! checked by measurement: the fuzzing tools print the most nanoseconds that a step took.

/// The steps of a verdict are spent, or a value is too large to be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Steps of an operation on large numbers besides its words: memory is taken and given back.
const OVERHEAD: u64 = 24;

/// Operations of the size of a product that reducing a quotient takes.
const REDUCTION: u64 = 4;

/// Steps that are left. One step is one machine-word operation of the number layer or one visit
/// of a node.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u64,
    left: u64,
    /// A charge failed, here or in a part whose end is the end of the whole.
    has_failed: bool,
}

/// Machine words of a number of so many bits.
fn words(bits: usize) -> u64 {
    u64::try_from(bits / 64)
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

impl Budget {
    pub(crate) fn new(steps: u64) -> Self {
        Self {
            total: steps,
            left: steps,
            has_failed: false,
        }
    }

    /// Takes steps; fails once they are spent, and from then on.
    pub(crate) fn charge(&mut self, steps: u64) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) if left > 0 => {
                self.left = left;
                Ok(())
            }
            _ => {
                self.left = 0;
                self.has_failed = true;
                Err(Exhausted)
            }
        }
    }

    /// Takes steps for each of so many things.
    pub(crate) fn charge_each(&mut self, count: usize, steps: u64) -> Result<(), Exhausted> {
        self.charge(
            u64::try_from(count)
                .unwrap_or(u64::MAX)
                .saturating_mul(steps),
        )
    }

    /// Steps that were taken.
    pub(crate) fn used(&self) -> u64 {
        self.total.saturating_sub(self.left)
    }

    /// True once a charge has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Gives half of what is left to a part of the work.
    pub(crate) fn half(&mut self) -> Self {
        self.part(self.left / 2)
    }

    /// Gives so many steps, or what is left, to a part of the work.
    pub(crate) fn part(&mut self, at_most: u64) -> Self {
        let part = self.left.min(at_most);
        self.left = self.left.saturating_sub(part);
        Self::new(part)
    }

    /// Takes back what a part of the work did not use; a failed charge in it counts as one here.
    pub(crate) fn refund(&mut self, part: &Self) {
        self.take_back(part);
        self.has_failed |= part.has_failed;
    }

    /// Takes back what a part of the work did not use that may end early without harm.
    pub(crate) fn take_back(&mut self, part: &Self) {
        self.left = self.left.saturating_add(part.left);
    }

    /// Steps of one product of numbers of so many bits.
    pub(crate) fn charge_bits(
        &mut self,
        left_bits: usize,
        right_bits: usize,
    ) -> Result<(), Exhausted> {
        let product = words(left_bits).saturating_mul(words(right_bits));
        self.charge(product.saturating_add(OVERHEAD))
    }

    /// Steps of one sum, product or comparison of quotients of so many bits, which are reduced.
    pub(crate) fn charge_quotients(
        &mut self,
        left_bits: usize,
        right_bits: usize,
    ) -> Result<(), Exhausted> {
        let product = words(left_bits).saturating_mul(words(right_bits));
        self.charge(product.saturating_add(OVERHEAD).saturating_mul(REDUCTION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_stays_spent() {
        let mut budget = Budget::new(4);
        assert_eq!(budget.charge(2), Ok(()));
        assert!(!budget.has_failed());
        assert_eq!(budget.charge(3), Err(Exhausted));
        assert_eq!(budget.charge(1), Err(Exhausted));
        assert!(budget.has_failed());
        assert_eq!(budget.used(), 4);
    }

    #[test]
    fn a_part_gives_back_what_it_leaves() {
        let mut budget = Budget::new(100);
        let mut part = budget.half();
        assert_eq!(part.charge(20), Ok(()));
        assert_eq!(budget.used(), 50);
        budget.refund(&part);
        assert_eq!(budget.used(), 20);
        let mut part = budget.part(1000);
        assert_eq!(part.charge(1000), Err(Exhausted));
        budget.take_back(&part);
        assert!(!budget.has_failed());
        budget.refund(&part);
        assert!(budget.has_failed());
    }

    #[test]
    fn large_numbers_cost_more() {
        let mut budget = Budget::new(10 + OVERHEAD);
        assert_eq!(budget.charge_bits(128, 128), Ok(()));
        assert_eq!(budget.used(), 9 + OVERHEAD);
        let mut budget = Budget::new(1000);
        assert_eq!(budget.charge_quotients(128, 128), Ok(()));
        assert_eq!(budget.used(), 4 * (9 + OVERHEAD));
    }
}
