//! Words that mean something inside a formula, and words that never do.

use crate::tree::Function;

/// A function by its name in text or as a command.
pub(crate) fn function(name: &str) -> Option<Function> {
    use Function::{
        Acos, Acot, Acsc, Asec, Asin, Atan, Ceil, Cos, Cosh, Cot, Csc, Floor, Gcd, Lcm, Ln, Max,
        Min, PlainLog, Sec, Sin, Sinh, Tan, Tanh,
    };
    Some(match name {
        "sin" => Sin,
        "cos" => Cos,
        "tan" => Tan,
        "cot" => Cot,
        "sec" => Sec,
        "csc" | "cosec" => Csc,
        "arcsin" | "asin" => Asin,
        "arccos" | "acos" => Acos,
        "arctan" | "atan" => Atan,
        "arccot" | "acot" => Acot,
        "arcsec" | "asec" => Asec,
        "arccsc" | "acsc" => Acsc,
        "sinh" => Sinh,
        "cosh" => Cosh,
        "tanh" => Tanh,
        "ln" => Ln,
        "log" => PlainLog,
        "abs" | "Abs" => Function::Abs,
        "floor" => Floor,
        "ceil" => Ceil,
        "gcd" | "GCD" => Gcd,
        "lcm" | "LCM" => Lcm,
        "max" => Max,
        "min" => Min,
        _ => return None,
    })
}

/// Names of more than one letter that are one operand.
pub(crate) fn is_operand_word(word: &str) -> bool {
    function(word).is_some()
        || matches!(
            word,
            "lg" | "exp"
                | "sqrt"
                | "cbrt"
                | "pi"
                | "Pi"
                | "PI"
                | "infty"
                | "infinity"
                | "Infinity"
                | "inf"
                | "oo"
                | "binom"
        )
        || greek(word).is_some()
        || differential(word).is_some()
}

/// Greek letters in words.
pub(crate) fn greek(word: &str) -> Option<&str> {
    const NAMES: &[&str] = &[
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda",
        "sigma", "tau", "phi", "psi", "omega", "rho", "mu", "nu", "xi", "chi",
    ];
    NAMES.contains(&word).then_some(word)
}

/// `dx` and its kin are one name.
pub(crate) fn differential(word: &str) -> Option<&str> {
    matches!(word, "dx" | "dy" | "dz" | "dt" | "du" | "dv" | "dr" | "ds").then_some(word)
}

/// Short words of a language that are no product of names.
const SHORT_WORDS: &[&str] = &[
    "an", "as", "at", "be", "by", "do", "go", "he", "if", "in", "is", "it", "me", "my", "no", "of",
    "on", "or", "so", "to", "up", "us", "we", "and", "are", "but", "can", "did", "few", "for",
    "get", "had", "has", "her", "him", "his", "how", "its", "let", "nor", "not", "odd", "off",
    "one", "our", "out", "own", "per", "put", "red", "say", "see", "set", "she", "six", "son",
    "sum", "ten", "the", "too", "two", "use", "was", "way", "who", "why", "yes", "yet", "you",
    "all", "any", "day", "man", "men", "new", "now", "old", "boy", "car", "cat", "dog", "cup",
    "am", "pm", "box", "bag", "egg", "pen", "pie", "mod", "div", "none", "then", "thus",
];

/// True if letters without an upright font are a product of single names: short, and no word of
/// a language.
pub(crate) fn is_product_of_names(word: &str) -> bool {
    let length = word.chars().count();
    let is_ascending = word
        .as_bytes()
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a.saturating_add(1) == *b));
    length == 1
        || ((length <= 3 || is_ascending && length <= 6)
            && ((word.bytes().all(|b| b.is_ascii_uppercase()) && !matches!(word, "AM" | "PM"))
                || !SHORT_WORDS.contains(&word.to_ascii_lowercase().as_str())))
}

/// Words that begin a condition.
pub(crate) fn is_condition(word: &str) -> bool {
    matches!(
        word,
        "if" | "for"
            | "where"
            | "when"
            | "with"
            | "whenever"
            | "unless"
            | "such"
            | "given"
            | "provided"
            | "otherwise"
            | "only"
            | "iff"
            | "except"
            | "while"
            | "as"
            | "is"
            | "are"
    )
}
