//! Random formulas, and their printing in a random notation.

use proptest::prelude::*;

/// A formula that has a value everywhere.
#[derive(Clone, Debug)]
pub enum Formula {
    Integer(i64),
    Quotient(i64, i64),
    Name(char),
    Pi,
    Root(u32),
    Sum(Box<Formula>, Box<Formula>),
    Product(Box<Formula>, Box<Formula>),
    Negative(Box<Formula>),
    Power(Box<Formula>, u32),
    Over(Box<Formula>, i64),
}

pub fn formula() -> impl Strategy<Value = Formula> {
    let leaf = prop_oneof![
        (-30i64..30).prop_map(Formula::Integer),
        (-30i64..30, 2i64..12).prop_map(|(top, bottom)| Formula::Quotient(top, bottom)),
        prop::sample::select(vec!['x', 'y', 'n']).prop_map(Formula::Name),
        Just(Formula::Pi),
        (2u32..20).prop_map(Formula::Root),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let boxed = inner.prop_map(Box::new);
        prop_oneof![
            (boxed.clone(), boxed.clone()).prop_map(|(a, b)| Formula::Sum(a, b)),
            (boxed.clone(), boxed.clone()).prop_map(|(a, b)| Formula::Product(a, b)),
            boxed.clone().prop_map(Formula::Negative),
            (boxed.clone(), 2u32..4).prop_map(|(a, n)| Formula::Power(a, n)),
            (boxed, 2i64..9).prop_map(|(a, n)| Formula::Over(a, n)),
        ]
    })
}

/// A small deterministic source of choices.
pub struct Choices(pub u64);

impl Choices {
    pub fn below(&mut self, range: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % range
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

impl Formula {
    pub fn print(&self, style: u64) -> String {
        self.write(&mut Choices(style | 1))
    }

    fn write(&self, choices: &mut Choices) -> String {
        match self {
            Formula::Integer(value) => value.to_string(),
            Formula::Quotient(top, bottom) => {
                quotient(&top.to_string(), &bottom.to_string(), choices)
            }
            Formula::Name(name) => name.to_string(),
            Formula::Pi => choices.pick(&["\\pi ", "π", "{\\pi}"]).to_string(),
            Formula::Root(radicand) => match choices.below(3) {
                0 => format!("\\sqrt{{{radicand}}}"),
                1 => format!("\\sqrt{{{radicand}}} "),
                _ => format!("√({radicand})"),
            },
            Formula::Sum(a, b) => {
                let plus = choices.pick(&["+", " + ", "\\, +", "+\\;"]);
                format!("{}{plus}{}", a.write(choices), wrapped(b, choices))
            }
            Formula::Product(a, b) => {
                let times = choices.pick(&["\\cdot ", "*", " \\times ", "·", ""]);
                format!("{}{times}{}", wrapped(a, choices), wrapped(b, choices))
            }
            Formula::Negative(a) => {
                let minus = choices.pick(&["-", "−", "- "]);
                format!("{minus}{}", wrapped(a, choices))
            }
            Formula::Power(a, n) => match choices.below(3) {
                0 => format!("{}^{{{n}}}", wrapped(a, choices)),
                1 => format!("{}^{n} ", wrapped(a, choices)),
                _ => format!("{}{}", wrapped(a, choices), if *n == 2 { "²" } else { "³" }),
            },
            Formula::Over(a, n) => quotient(&a.write(choices), &n.to_string(), choices),
        }
    }
}

fn quotient(top: &str, bottom: &str, choices: &mut Choices) -> String {
    match choices.below(5) {
        0 => format!("\\frac{{{top}}}{{{bottom}}}"),
        1 => format!("\\dfrac{{{top}}}{{{bottom}}}"),
        2 => format!("{{{top} \\over {bottom}}}"),
        3 => format!("\\tfrac {{{top}}} {{{bottom}}}"),
        _ => format!("(({top})/{bottom})"),
    }
}

fn wrapped(inner: &Formula, choices: &mut Choices) -> String {
    let text = inner.write(choices);
    match choices.below(4) {
        0 => format!("\\left({text}\\right)"),
        1 => format!("\\bigl( {text} \\bigr)"),
        2 => format!("({{{text}}})"),
        _ => format!("({text})"),
    }
}

/// Another formula of the same value.
pub fn rewritten(formula: &Formula, choices: u64) -> Formula {
    rewrite(formula, &mut Choices(choices | 1))
}

fn rewrite(formula: &Formula, choices: &mut Choices) -> Formula {
    let inner = match formula {
        Formula::Sum(a, b) => {
            let (a, b) = (Box::new(rewrite(a, choices)), Box::new(rewrite(b, choices)));
            if choices.below(2) == 0 {
                Formula::Sum(b, a)
            } else {
                Formula::Sum(a, b)
            }
        }
        Formula::Product(a, b) => match (&**a, &**b) {
            (Formula::Sum(x, y), _) if choices.below(2) == 0 => {
                let left = Formula::Product(x.clone(), b.clone());
                let right = Formula::Product(y.clone(), b.clone());
                Formula::Sum(Box::new(left), Box::new(right))
            }
            _ => Formula::Product(Box::new(rewrite(b, choices)), Box::new(rewrite(a, choices))),
        },
        Formula::Negative(a) => Formula::Product(
            Box::new(Formula::Integer(-1)),
            Box::new(rewrite(a, choices)),
        ),
        Formula::Power(a, 2) => Formula::Product(a.clone(), Box::new(rewrite(a, choices))),
        Formula::Quotient(top, bottom) => Formula::Quotient(top * 3, bottom * 3),
        Formula::Root(n) => Formula::Over(Box::new(Formula::Root(n * 4)), 2),
        Formula::Over(a, n) => {
            let twice =
                Formula::Product(Box::new(Formula::Integer(2)), Box::new(rewrite(a, choices)));
            Formula::Over(Box::new(twice), n * 2)
        }
        other => other.clone(),
    };
    match choices.below(5) {
        0 => Formula::Negative(Box::new(Formula::Negative(Box::new(inner)))),
        1 => {
            let more = Formula::Sum(Box::new(inner), Box::new(Formula::Name('x')));
            Formula::Sum(
                Box::new(more),
                Box::new(Formula::Negative(Box::new(Formula::Name('x')))),
            )
        }
        _ => inner,
    }
}
