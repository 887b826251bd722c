//! Reading is tolerant: every field may be missing, unknown fields are ignored, and a field of another
//! shape counts as missing. So this version can read the results of other versions.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Tool;
use crate::report::histogram::Encoded;

/// Defines structs of which every field is read in this way.
macro_rules! tolerant {
    ($(
        $(#[$of_struct:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$of_struct])*
        #[derive(Debug, Clone, Default, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {$(
            $(#[$of_field])*
            #[serde(deserialize_with = "crate::report::saved::lenient::field")]
            pub $field: $type,
        )*}
    )*};
}
pub(super) use tolerant;

/// Reads a field of a `tolerant` struct.
pub(super) fn field<'de, D: Deserializer<'de>, T: Field>(deserializer: D) -> Result<T, D::Error> {
    Ok(T::read(Value::deserialize(deserializer)?))
}

/// The type of a field: what any JSON value means for it.
pub(super) trait Field: Sized {
    /// Reads a value. A value of another shape counts as missing.
    fn read(value: Value) -> Self;
}

impl<T: DeserializeOwned> Field for Option<T> {
    fn read(value: Value) -> Self {
        serde_json::from_value(value).unwrap_or_default()
    }
}

/// Entries of another shape are left out, the others count.
impl<T: DeserializeOwned> Field for Vec<T> {
    fn read(value: Value) -> Self {
        let Value::Array(entries) = value else { return Self::new() };
        entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
    }
}

impl Field for Value {
    fn read(value: Value) -> Self {
        value
    }
}

macro_rules! default_when_of_another_shape {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(value: Value) -> Self {
                serde_json::from_value(value).unwrap_or_default()
            }
        }
    )*};
}
default_when_of_another_shape!(bool, f64, String, BTreeMap<String, f64>, Tool, Encoded);

/// A count, or counts by kind that are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total(pub Option<f64>);

impl Field for Total {
    fn read(value: Value) -> Self {
        let parts = |parts: Vec<&Value>| Some(parts.into_iter().filter_map(Value::as_f64).sum());
        Self(match value {
            Value::Array(kinds) => parts(kinds.iter().collect()),
            Value::Object(kinds) => parts(kinds.values().collect()),
            other => other.as_f64(),
        })
    }
}
