//! The step counter: work is bounded by counted steps, never by a clock.

/// The steps of a verdict are spent, or a value is too large to be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Steps of an operation on large numbers besides its words: memory is taken and given back.
const OVERHEAD: u64 = 24;

/// Steps that are left. One step is one machine-word operation of the number layer or one visit
/// of a node.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    /// Takes steps; fails once they are spent, and from then on.
    pub(crate) fn charge(&mut self, steps: u64) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Exhausted)
            }
        }
    }

    /// Gives half of what is left to a part of the work.
    pub(crate) fn half(&mut self) -> Self {
        let left = self.left / 2;
        self.left = self.left.saturating_sub(left);
        Self { left }
    }

    /// Takes back what a part of the work did not use.
    pub(crate) fn refund(&mut self, part: &Self) {
        self.left = self.left.saturating_add(part.left);
    }

    /// Steps of one operation on numbers of so many bits: linear in the words, or quadratic for
    /// products.
    pub(crate) fn charge_bits(
        &mut self,
        left_bits: usize,
        right_bits: usize,
    ) -> Result<(), Exhausted> {
        let words = |bits: usize| {
            u64::try_from(bits / 64)
                .unwrap_or(u64::MAX)
                .saturating_add(1)
        };
        let product = words(left_bits).saturating_mul(words(right_bits));
        self.charge(product.saturating_add(OVERHEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_stays_spent() {
        let mut budget = Budget::new(3);
        assert_eq!(budget.charge(2), Ok(()));
        assert_eq!(budget.charge(2), Err(Exhausted));
        assert_eq!(budget.charge(1), Err(Exhausted));
    }

    #[test]
    fn large_numbers_cost_more() {
        let mut budget = Budget::new(9 + OVERHEAD);
        assert_eq!(budget.charge_bits(128, 128), Ok(()));
        assert_eq!(budget.charge(1), Err(Exhausted));
    }
}
