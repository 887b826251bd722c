//! Reading is tolerant: every field may be missing, unknown fields are ignored, and a field of another
//! shape counts as missing. So results of other versions are read, too.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A field of another shape counts as missing.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// A count, or counts by kind that are added up.
pub(super) fn total<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let parts = |parts: Vec<&Value>| Some(parts.into_iter().filter_map(Value::as_f64).sum());
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(kinds) => parts(kinds.iter().collect()),
        Value::Object(kinds) => parts(kinds.values().collect()),
        other => other.as_f64(),
    })
}

/// Entries of another shape are left out, the others count.
pub(super) fn each<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let Value::Array(entries) = Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}
