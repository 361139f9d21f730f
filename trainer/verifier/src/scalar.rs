//! The equality ladder for numbers and formulas: exact numbers, written decimals, canonical forms,
//! intervals, fixed points.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use dashu_ratio::RBig;

use crate::ball::{Ball, Unknown};
use crate::budget::{Budget, Exhausted};
use crate::canon::{Canon, Form, NoForm, Poly, to_expr};
use crate::number::{Decimal, size_bits};
use crate::points::{Complex, Evaluator, any, has_imaginary, names, point};
use crate::policy::{DecimalMatch, Domain, Policy};
use crate::tree::{Expr, Function};
use crate::verdict::Reason;

/// Precisions of the comparison of constants, below the limit.
const PRECISIONS: [usize; 3] = [128, 512, 2048];

/// Precision at the fixed points.
const POINT_PRECISION: usize = 256;

/// Number of fixed points.
const NUM_POINTS: usize = 16;

/// Points with overlap that count as equal.
const ENOUGH_POINTS: usize = 8;

/// Compares under one policy, within one budget.
pub(crate) struct Comparer<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) evaluator: Evaluator,
    pub(crate) opaque: BTreeMap<String, Expr>,
}

/// Terms of a difference that are evaluated one by one.
const MAX_TERMS: usize = 64;

/// What the canonical forms say.
enum Rung {
    Decided(Reason),
    /// Two constants that are equal if and only if the sides are.
    Constants(Expr, Expr),
    Open,
}

/// What one evaluation of both sides says.
enum Seen {
    Overlap { is_tight: bool },
    Apart,
    Nothing,
}

impl<'p> Comparer<'p> {
    pub(crate) fn new(policy: &'p Policy, budget: Budget) -> Self {
        Self {
            policy,
            evaluator: Evaluator::new(budget),
            opaque: BTreeMap::new(),
        }
    }

    pub(crate) fn canon(&mut self) -> Canon<'_> {
        Canon {
            budget: &mut self.evaluator.budget,
            max_terms: self.policy.limits.terms,
            max_bits: self.policy.limits.integer_bits,
            opaque: &mut self.opaque,
        }
    }

    /// The ladder for two formulas. The first is the reference answer's.
    pub(crate) fn exprs(&mut self, a: &Expr, b: &Expr) -> Reason {
        let budget = &mut self.evaluator.budget;
        if budget
            .charge(charge_of(a).saturating_add(charge_of(b)))
            .is_err()
        {
            return Reason::Undecided;
        }
        match (a, b) {
            (Expr::Number(x), Expr::Number(y)) => {
                return if x == y {
                    Reason::EqualNumber
                } else {
                    Reason::DifferentNumber
                };
            }
            (Expr::Decimal(x), Expr::Decimal(y)) => return self.two_decimals(x, y),
            (Expr::Decimal(x), other) => return self.decimal(x, other, true),
            (other, Expr::Decimal(y)) => return self.decimal(y, other, false),
            _ => {}
        }
        if a == b {
            return Reason::EqualForm;
        }
        if a.is_infinite() || b.is_infinite() {
            return if a.is_infinite() && b.is_infinite() {
                Reason::DifferentForm
            } else {
                Reason::DifferentKind
            };
        }
        // The canonical form takes half of the steps at most, so that evaluation has the rest.
        let part = self.evaluator.budget.half();
        let rest = core::mem::replace(&mut self.evaluator.budget, part);
        let found = self.forms(a, b);
        let part = core::mem::replace(&mut self.evaluator.budget, rest);
        self.evaluator.budget.take_back(&part);
        match found {
            Ok(Rung::Decided(reason)) => reason,
            // Common terms are gone from a difference: nothing small is lost beside them.
            Ok(Rung::Constants(plus, minus)) => self.values_of(&plus, &minus),
            Ok(Rung::Open) | Err(_) => self.values_of(a, b),
        }
    }

    /// Rungs 5 and 6.
    fn forms(&mut self, a: &Expr, b: &Expr) -> Result<Rung, NoForm> {
        let mut canon = self.canon();
        let left = canon.form(a)?;
        let right = canon.form(b)?;
        if left.bottom.is_zero() || right.bottom.is_zero() {
            return Ok(Rung::Open);
        }
        if left.bottom == right.bottom && left.top == right.top {
            return Ok(Rung::Decided(Reason::EqualForm));
        }
        let gap = canon.difference(&left, &right)?;
        if gap.is_zero() {
            let is_whole = |form: &Form| form.bottom.as_constant().is_some();
            let is_form = is_whole(&left) && is_whole(&right);
            return Ok(Rung::Decided(if is_form {
                Reason::EqualForm
            } else {
                Reason::EqualRatio
            }));
        }
        if gap.is_over_names() {
            return Ok(Rung::Decided(Reason::DifferentForm));
        }
        if Self::is_constant(a) && Self::is_constant(b) && gap.0.len() <= MAX_TERMS {
            return Ok(self.parted(gap).unwrap_or(Rung::Open));
        }
        Ok(Rung::Open)
    }

    /// A difference as what is added and what is taken away.
    fn parted(&mut self, gap: Poly) -> Option<Rung> {
        let (plus, minus): (BTreeMap<_, _>, BTreeMap<_, _>) = gap
            .0
            .into_iter()
            .partition(|(_, value)| *value > RBig::ZERO);
        let mut minus = Poly(minus);
        minus
            .0
            .values_mut()
            .for_each(|value| *value = -value.clone());
        let budget = &mut self.evaluator.budget;
        let plus = to_expr(&Poly(plus), &self.opaque, budget)?;
        Some(Rung::Constants(
            plus,
            to_expr(&minus, &self.opaque, budget)?,
        ))
    }

    /// Rungs 7 and 8.
    fn values_of(&mut self, a: &Expr, b: &Expr) -> Reason {
        let mut found = BTreeMap::new();
        names(a, false, &mut found);
        names(b, false, &mut found);
        let variables: Vec<(String, bool)> = found.into_iter().collect();
        let has_log = |expr: &Expr| {
            any(expr, &|part| {
                matches!(part, Expr::Apply(Function::PlainLog, _))
            })
        };
        let is_ambiguous = has_log(a) != has_log(b);
        self.evaluator.is_complex = has_imaginary(a) || has_imaginary(b);
        let mut reason = Reason::Undecided;
        for is_natural in [false, true] {
            self.evaluator.log_is_natural = is_natural;
            let next = if variables.is_empty() {
                self.constants(a, b)
            } else {
                self.at_points(a, b, &variables)
            };
            if !is_natural || next.correct() == Some(true) {
                reason = next;
            }
            // Like is compared with like where both sides write `\log`.
            if reason.correct() == Some(true) || !(is_ambiguous || has_log(a)) {
                break;
            }
        }
        self.evaluator.log_is_natural = false;
        reason
    }

    fn constants(&mut self, a: &Expr, b: &Expr) -> Reason {
        let limit = self.policy.limits.precision;
        let mut reason = Reason::Undecided;
        for prec in PRECISIONS
            .into_iter()
            .filter(|prec| *prec <= limit.max(128))
        {
            self.evaluator.prec = prec;
            reason = match self.seen(a, b, &[]) {
                Err(Unknown::Exhausted) => return Reason::Undecided,
                Err(_) => return Reason::DifferentValue,
                Ok(Seen::Apart) => return Reason::DifferentValue,
                Ok(Seen::Overlap { is_tight: true }) => Reason::EqualPoints,
                Ok(Seen::Overlap { is_tight: false } | Seen::Nothing) => Reason::Undecided,
            };
        }
        reason
    }

    /// Evaluates both sides. An error other than exhaustion: defined on one side only.
    fn seen(&mut self, a: &Expr, b: &Expr, at: &[(String, RBig)]) -> Result<Seen, Unknown> {
        let left = self.evaluator.eval(a, at);
        let right = self.evaluator.eval(b, at);
        match (left, right) {
            (Err(Unknown::Exhausted), _) | (_, Err(Unknown::Exhausted)) => Err(Unknown::Exhausted),
            (Ok(left), Ok(right)) => self.overlap(&left, &right),
            (Err(Unknown::Undefined), Ok(_)) | (Ok(_), Err(Unknown::Undefined)) => {
                Err(Unknown::Undefined)
            }
            _ => Ok(Seen::Nothing),
        }
    }

    fn overlap(&mut self, left: &Complex, right: &Complex) -> Result<Seen, Unknown> {
        let gap = match self.evaluator.sub(left, right) {
            Ok(gap) => gap,
            Err(Unknown::Exhausted) => return Err(Unknown::Exhausted),
            Err(_) => return Ok(Seen::Nothing),
        };
        if !gap.re.contains_zero() || !gap.im.contains_zero() {
            return Ok(Seen::Apart);
        }
        // Relative to the operands, never absolute.
        let scale = left
            .re
            .top()
            .max(left.im_top())
            .max(right.re.top())
            .max(right.im_top());
        let wanted = i64::try_from(self.evaluator.prec / 2).unwrap_or(0);
        let is_exact = left.is_zero() && right.is_zero();
        let is_tight =
            is_exact || (gap.re.is_tight(scale, wanted) && gap.im.is_tight(scale, wanted));
        Ok(Seen::Overlap { is_tight })
    }

    fn at_points(&mut self, a: &Expr, b: &Expr, variables: &[(String, bool)]) -> Reason {
        self.evaluator.prec = POINT_PRECISION;
        let is_positive = self.policy.domain == Domain::Positive;
        let mut num_equal = 0usize;
        // Where the first points say too little, positive ones follow: roots and logarithms.
        for index in 0..NUM_POINTS.saturating_mul(2) {
            if index >= NUM_POINTS && num_equal >= ENOUGH_POINTS {
                break;
            }
            if self
                .evaluator
                .budget
                .charge_each(variables.len(), 100)
                .is_err()
            {
                return Reason::Undecided;
            }
            let at = point(index, variables, is_positive || index >= NUM_POINTS);
            match self.seen(a, b, &at) {
                Err(Unknown::Exhausted) => return Reason::Undecided,
                Err(_) if is_positive => {}
                Err(_) | Ok(Seen::Apart) => return Reason::DifferentValue,
                Ok(Seen::Overlap { is_tight: true }) => num_equal = num_equal.saturating_add(1),
                Ok(_) => {}
            }
        }
        if num_equal >= ENOUGH_POINTS {
            Reason::EqualPoints
        } else {
            Reason::Undecided
        }
    }

    fn two_decimals(&mut self, a: &Decimal, b: &Decimal) -> Reason {
        if self.charge_rounding(a, &b.value).is_err() {
            return Reason::Undecided;
        }
        if a.value == b.value {
            return Reason::EqualNumber;
        }
        if self.policy.decimal_match == DecimalMatch::GoldDigits
            && a.stands_for(&b.value)
            && !a.is_unfinished
        {
            return Reason::EqualRounded;
        }
        let (short, long) = if a.places <= b.places { (a, b) } else { (b, a) };
        let stands = |decimal: &Decimal, other: &Decimal| {
            decimal.shows_enough(self.policy) && decimal.stands_for(&other.value)
        };
        if stands(short, long) || (long.is_unfinished && stands(long, short)) {
            Reason::EqualRounded
        } else {
            Reason::DifferentNumber
        }
    }

    /// A written decimal against anything else.
    fn decimal(&mut self, decimal: &Decimal, other: &Expr, is_gold: bool) -> Reason {
        let may_round = decimal.shows_enough(self.policy)
            || (is_gold && self.policy.decimal_match == DecimalMatch::GoldDigits);
        if let Some(exact) = other.exact() {
            if self.charge_rounding(decimal, exact).is_err() {
                return Reason::Undecided;
            }
            return if *exact == decimal.value && !decimal.is_unfinished {
                Reason::EqualNumber
            } else if may_round && decimal.stands_for(exact) {
                Reason::EqualRounded
            } else {
                Reason::DifferentNumber
            };
        }
        if any(other, &|part| {
            matches!(part, Expr::Name(_) | Expr::Infinity | Expr::Imaginary)
        }) || any(other, &|part| {
            matches!(part, Expr::Apply(Function::Named(_), _))
        }) {
            return if decimal.is_unfinished {
                Reason::DifferentForm
            } else {
                match self.exprs(other, &Expr::Number(decimal.value.clone())) {
                    Reason::DifferentKind => Reason::DifferentKind,
                    reason if reason.correct() == Some(true) => reason,
                    Reason::Undecided => Reason::Undecided,
                    _ => Reason::DifferentForm,
                }
            };
        }
        // A formula that is a rational after all, or an irrational number enclosed by a ball.
        let exact = Expr::Number(decimal.value.clone());
        let reason = self.exprs(&exact, other);
        if reason.correct() == Some(true) && !decimal.is_unfinished {
            return reason;
        }
        if reason == Reason::Undecided {
            return reason;
        }
        if may_round && self.rounds_to(other, decimal) {
            Reason::EqualRounded
        } else {
            Reason::DifferentNumber
        }
    }

    /// Steps of the rounding rule: a few sums and comparisons of quotients.
    fn charge_rounding(&mut self, decimal: &Decimal, other: &RBig) -> Result<(), Exhausted> {
        let places = usize::try_from(decimal.places.unsigned_abs()).unwrap_or(usize::MAX);
        let num_bits = size_bits(&decimal.value).max(places.saturating_mul(10) / 3);
        let budget = &mut self.evaluator.budget;
        budget.charge_quotients(num_bits, num_bits)?;
        budget.charge_quotients(num_bits, size_bits(other))
    }

    fn rounds_to(&mut self, constant: &Expr, decimal: &Decimal) -> bool {
        let half = decimal.unit() * RBig::from_parts(1.into(), 2u8.into());
        let reach = if decimal.is_unfinished {
            decimal.unit()
        } else {
            half
        };
        let gap = Expr::Sum(vec![constant.clone(), Expr::Number(-decimal.value.clone())]);
        let Some(value) = self.magnitude(&gap) else {
            return false;
        };
        let prec = self.evaluator.prec;
        let budget = &mut self.evaluator.budget;
        Ball::rational(&reach, prec, budget)
            .and_then(|reach| value.sub(&reach, prec, budget))
            .is_ok_and(|gap| !gap.is_positive())
    }

    fn magnitude(&mut self, expr: &Expr) -> Option<Ball> {
        self.evaluator.prec = 512;
        let value = self.evaluator.eval(expr, &[]).ok()?;
        value.im.is_exact_zero().then(|| value.re.abs())
    }

    /// The order of two real constants; none if they cannot be evaluated.
    pub(crate) fn order(&mut self, a: &Expr, b: &Expr) -> Option<Ordering> {
        if let (Some(x), Some(y)) = (a.exact(), b.exact()) {
            let budget = &mut self.evaluator.budget;
            budget.charge_bits(size_bits(x), size_bits(y)).ok()?;
            return Some(x.cmp(y));
        }
        if self.exprs(a, b).correct() == Some(true) {
            return Some(Ordering::Equal);
        }
        let negative = Expr::Product(vec![Expr::Number(RBig::NEG_ONE), b.clone()]);
        self.sign(&Expr::Sum(vec![a.clone(), negative]))
    }

    /// The sign of a real constant.
    pub(crate) fn sign(&mut self, expr: &Expr) -> Option<Ordering> {
        self.evaluator.is_complex = has_imaginary(expr);
        for prec in PRECISIONS {
            self.evaluator.prec = prec;
            let value = self.evaluator.eval(expr, &[]).ok()?;
            if !value.im.is_exact_zero() {
                return None;
            }
            if value.re.is_exact_zero() {
                return Some(Ordering::Equal);
            }
            if value.re.is_positive() {
                return Some(Ordering::Greater);
            }
            if value.re.is_negative() {
                return Some(Ordering::Less);
            }
        }
        None
    }

    /// True if the number is an exact rational equal to the value of the formula.
    pub(crate) fn is_constant(expr: &Expr) -> bool {
        !any(expr, &|part| {
            matches!(
                part,
                Expr::Name(_)
                    | Expr::Infinity
                    | Expr::PlusMinus(..)
                    | Expr::Apply(Function::Named(_), _)
            )
        })
    }
}

/// Steps of walking through a formula a few times, and of a comparison of its numbers.
fn charge_of(expr: &Expr) -> u64 {
    let inner = |parts: &[Expr]| parts.iter().map(charge_of).sum::<u64>();
    let steps = match expr {
        Expr::Number(value) => return size_bits(value) as u64 / 64 + 4,
        Expr::Name(name) => name.len() as u64,
        Expr::Sum(parts) | Expr::Product(parts) | Expr::Apply(_, parts) => inner(parts),
        Expr::Power(base, exponent) => charge_of(base).saturating_add(charge_of(exponent)),
        Expr::PlusMinus(_, inner) => charge_of(inner),
        _ => 0,
    };
    steps.saturating_add(16)
}

impl Complex {
    fn im_top(&self) -> i64 {
        if self.im.is_exact_zero() {
            i64::MIN
        } else {
            self.im.top()
        }
    }

    fn is_zero(&self) -> bool {
        self.re.is_exact_zero() && self.im.is_exact_zero()
    }
}
