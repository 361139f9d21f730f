//! Units by their usual name, from a closed list.

/// Spellings, the usual name first.
const UNITS: &[&[&str]] = &[
    &["dollar", "dollars", "USD", "usd", "bucks"],
    &["cent", "cents", "¢"],
    &["euro", "euros", "EUR"],
    &["pound", "pounds", "lb", "lbs", "GBP"],
    &["rupee", "rupees", "Rs", "INR"],
    &["yen", "JPY"],
    &["yuan", "RMB", "CNY"],
    &[
        "mm",
        "millimeter",
        "millimeters",
        "millimetre",
        "millimetres",
    ],
    &[
        "cm",
        "cms",
        "centimeter",
        "centimeters",
        "centimetre",
        "centimetres",
    ],
    &["dm", "decimeter", "decimeters", "decimetre", "decimetres"],
    &["m", "meter", "meters", "metre", "metres"],
    &[
        "km",
        "kms",
        "kilometer",
        "kilometers",
        "kilometre",
        "kilometres",
    ],
    &["inch", "inches", "in"],
    &["foot", "feet", "ft"],
    &["yard", "yards", "yd", "yds"],
    &["mile", "miles", "mi"],
    &["acre", "acres"],
    &["hectare", "hectares", "ha"],
    &["mg", "milligram", "milligrams"],
    &["g", "gram", "grams", "gm"],
    &["kg", "kgs", "kilogram", "kilograms"],
    &["ounce", "ounces", "oz"],
    &["ton", "tons", "tonne", "tonnes"],
    &["second", "seconds", "sec", "secs", "s"],
    &["minute", "minutes", "min", "mins"],
    &["hour", "hours", "hr", "hrs", "h"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &[
        "ml",
        "mL",
        "milliliter",
        "milliliters",
        "millilitre",
        "millilitres",
    ],
    &["liter", "liters", "litre", "litres", "L"],
    &["gallon", "gallons", "gal"],
    &["quart", "quarts"],
    &["pint", "pints"],
    &["cup", "cups"],
    &["degree", "degrees", "deg"],
    &["radian", "radians", "rad"],
    &["joule", "joules", "J"],
    &["kJ", "kilojoule", "kilojoules"],
    &["newton", "newtons", "N"],
    &["watt", "watts", "W"],
    &["kW", "kilowatt", "kilowatts"],
    &["kWh"],
    &["volt", "volts", "V"],
    &["ampere", "amperes", "amp", "amps"],
    &["ohm", "ohms"],
    &["hertz", "Hz"],
    &["pascal", "pascals", "Pa"],
    &["kelvin", "K"],
    &["mol", "mole", "moles"],
    &["mile/hour", "mph"],
    &["km/hour", "kph", "kmh"],
    &["unit", "units"],
    &["point", "points", "pts"],
    &["percent", "percents", "pct"],
];

/// The usual name of a unit.
pub(crate) fn usual_name(word: &str) -> Option<&'static str> {
    UNITS
        .iter()
        .find(|spellings| spellings.contains(&word))
        .and_then(|spellings| spellings.first().copied())
}

/// The usual name of the unit that a currency sign stands for.
pub(crate) fn currency(sign: char) -> Option<&'static str> {
    Some(match sign {
        '$' => "dollar",
        '¢' => "cent",
        '€' => "euro",
        '£' => "pound",
        '¥' => "yen",
        '₹' => "rupee",
        _ => return None,
    })
}

/// Words that count things but carry no unit of measure; they must not follow a number as its
/// unit, because they change its meaning.
pub(crate) fn changes_meaning(word: &str) -> bool {
    matches!(
        word,
        "a" | "an"
            | "the"
            | "and"
            | "or"
            | "if"
            | "is"
            | "are"
            | "was"
            | "be"
            | "not"
            | "no"
            | "than"
            | "more"
            | "less"
            | "fewer"
            | "times"
            | "over"
            | "under"
            | "plus"
            | "minus"
            | "by"
            | "to"
            | "from"
            | "of"
            | "in"
            | "on"
            | "at"
            | "for"
            | "with"
            | "without"
            | "hundred"
            | "thousand"
            | "million"
            | "billion"
            | "trillion"
            | "dozen"
            | "half"
            | "third"
            | "thirds"
            | "halves"
            | "quarter"
            | "quarters"
            | "squared"
            | "cubed"
            | "square"
            | "cubic"
            | "factorial"
            | "choose"
            | "mod"
            | "modulo"
            | "where"
            | "when"
            | "such"
            | "that"
            | "unless"
            | "except"
            | "other"
            | "each"
            | "per"
            | "pair"
            | "pairs"
            | "base"
            | "remainder"
            | "am"
            | "pm"
            | "st"
            | "nd"
            | "rd"
            | "th"
            | "upper"
            | "lower"
            | "but"
            | "so"
            | "then"
            | "which"
            | "because"
            | "since"
            | "as"
            | "negative"
            | "positive"
            | "approximately"
            | "about"
            | "only"
            | "any"
            | "all"
            | "some"
            | "every"
            | "equals"
            | "equal"
            | "solutions"
            | "it"
            | "we"
            | "he"
            | "she"
            | "they"
            | "this"
            | "there"
    )
}

/// Factors written as words behind a number.
pub(crate) fn multiplier(word: &str) -> Option<i64> {
    Some(match word {
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        "dozen" => 12,
        _ => return None,
    })
}
