//! What an answer can mean: expressions, and the structures made of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use dashu_ratio::RBig;

use crate::number::Decimal;

/// A number, or a formula that stands for one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    /// An exact number.
    Number(RBig),
    /// A written decimal: exact inside a formula, subject to the rounding rule as a whole answer.
    Decimal(Decimal),
    /// A variable, with its subscript and primes as part of the name.
    Name(String),
    /// π.
    Pi,
    /// Euler's number.
    Euler,
    /// The imaginary unit.
    Imaginary,
    /// ∞
    Infinity,
    /// A sum.
    Sum(Vec<Expr>),
    /// A product; a quotient is a product with a power of exponent -1.
    Product(Vec<Expr>),
    /// Base and exponent.
    Power(Box<Expr>, Box<Expr>),
    /// A function of its arguments.
    Apply(Function, Vec<Expr>),
    /// `±` (true) or `∓` (false) before a term; expanded into two values before any comparison.
    PlusMinus(bool, Box<Expr>),
}

/// The functions with a meaning; anything else is a name that is applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Asin,
    Acos,
    Atan,
    Acot,
    Asec,
    Acsc,
    Sinh,
    Cosh,
    Tanh,
    /// Natural logarithm.
    Ln,
    /// `\log` without a base: base ten or e.
    PlainLog,
    /// Logarithm of the first argument to the base of the second.
    Log,
    Abs,
    Floor,
    Ceil,
    Factorial,
    DoubleFactorial,
    Binomial,
    Gcd,
    Lcm,
    Mod,
    Min,
    Max,
    /// An angle in degrees.
    Degree,
    /// An opaque form, equal only to itself: `f(x)`, `\int`, `\vec{v}`.
    Named(String),
}

/// How a structure is read as a set or as a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    NotEqual,
    In,
    NotIn,
    Approximately,
    Congruent,
    Other(u8),
}

impl Relation {
    /// The same relation read from right to left.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::Greater => Self::Less,
            Self::LessEqual => Self::GreaterEqual,
            Self::GreaterEqual => Self::LessEqual,
            other => other,
        }
    }

    pub(crate) fn is_order(self) -> bool {
        matches!(
            self,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual
        )
    }
}

/// Whether the members of a list were joined by "or", "and" or a comma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joint {
    Comma,
    And,
    Or,
}

/// Sets with a name, and operations on sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOp {
    Union,
    Intersection,
    Difference,
}

/// A whole answer or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Expr(Expr),
    /// A number with a unit's usual name.
    Quantity(Expr, String),
    /// `p%`.
    Percent(Expr),
    /// Words, levelled.
    Text(String),
    /// A letter that can only be a choice: `(B)` with something behind it, "option B".
    Choice(char),
    /// `(a, b]` and its kin: brackets as written.
    Group(char, Vec<Value>, char),
    /// A set with braces.
    Set(Vec<Value>),
    /// A list without brackets.
    List(Joint, Vec<Value>),
    /// ℝ, ℤ, ℕ, ℚ, ℂ.
    NumberSet(char),
    /// Two sets and an operation.
    SetOp(SetOp, Box<Value>, Box<Value>),
    /// Rows of a matrix; true if its bars mean a determinant.
    Matrix(Vec<Vec<Value>>),
    /// `a < b ≤ c`: the first side, then pairs.
    Chain(Box<Value>, Vec<(Relation, Value)>),
    /// A name bound to a value: `x = 5`.
    Assign(String, Box<Value>),
    /// A value under a condition that is part of the answer.
    Conditional(Box<Value>, Box<Value>),
    /// `\forall x`, and other prefixes that are part of the answer.
    Quantified(String, Box<Value>),
    /// `7:32`.
    Ratio(Vec<Expr>),
    /// Hour, minute and perhaps "am" or "pm".
    Time(u8, u8, String),
    /// Digits and their base.
    Based(String, Option<u32>),
}
