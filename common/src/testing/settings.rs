//! The settings that shape a connection, for the test that each of them keeps connections apart.

/// The names of all fields of a struct, as `Struct.field`. Does not compile if one is missing.
macro_rules! field_names {
    ($type:ident { $($field:ident),* $(,)? }) => {{
        // Taken apart, so that a new field cannot be forgotten.
        let _ = |$type { $($field: _),* }: $type| ();
        vec![$(concat!(stringify!($type), ".", stringify!($field))),*]
    }};
}

pub(crate) use field_names;

/// The names of all settings of connectors, TLS, proxies and keys.
pub fn names() -> Vec<&'static str> {
    use crate::connect::{Connector, UriKey};
    [Connector::settings(), UriKey::settings()].concat()
}
