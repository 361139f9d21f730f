//! The macro that makes a struct and its documentation table from one list.

/// Definition of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// Name in `metrics.jsonl`.
    pub name: &'static str,
    /// Heading in the table.
    pub group: &'static str,
    /// Unit; `1` for a number without one.
    pub unit: &'static str,
    /// What it is and how it is estimated.
    pub definition: &'static str,
    /// True for what depends on the machine; such metrics are in the object `timing`.
    pub is_timing: bool,
}

/// One kind of value: absent is `null`, and so is what is not finite.
macro_rules! metric_type {
    (number) => { Option<f64> };
    (count) => { Option<u64> };
    (map) => { std::collections::BTreeMap<String, f64> };
}

/// Makes a struct with one field per line and a constant table of [`MetricDef`]s.
macro_rules! define_metrics {
    (
        $(#[$meta:meta])*
        pub struct $name:ident, timing = $is_timing:literal $(, first = $first:ident: $first_doc:literal)?
        $(, last = $last:ident: $last_type:ty, $last_doc:literal)?;
        $(group $group:literal { $($field:ident: $kind:ident [$unit:literal] $definition:literal;)+ })+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(#[doc = $first_doc] pub $first: u64,)?
            $($(
                #[doc = concat!($definition, " Unit: ", $unit, ".")]
                pub $field: $crate::metrics::define::metric_type!($kind),
            )+)+
            $(#[doc = $last_doc] pub $last: $last_type,)?
        }

        impl $name {
            /// The definitions, in the order of the fields.
            pub const TABLE: &'static [$crate::metrics::MetricDef] = &[$($(
                $crate::metrics::MetricDef {
                    name: stringify!($field),
                    group: $group,
                    unit: $unit,
                    definition: $definition,
                    is_timing: $is_timing,
                },
            )+)+];
        }
    };
}

pub(super) use {define_metrics, metric_type};
