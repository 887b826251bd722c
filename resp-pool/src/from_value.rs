//! From a reply to the type the caller wants.

use std::{collections::BTreeMap, collections::HashMap, collections::HashSet, hash::Hash};

use bytes::Bytes;

use crate::{error::ConversionError, value::Value};

/// A type that a reply can be turned into.
///
/// Conversions are lenient between types that mean the same in RESP2 and RESP3 (a map is also a
/// flat array of keys and values, a double is also a string), and strict about loss: a number that
/// does not fit, a string that is not UTF-8 or a missing element is a [`ConversionError`]. The
/// connection stays in step either way, since the reply has been read completely.
pub trait FromValue: Sized {
    /// Converts, or says what was found instead.
    ///
    /// # Errors
    /// [`ConversionError`] when `value` is of another kind or does not fit. An error reply inside a
    /// larger one (in a pipeline, say) is an error here as well.
    fn from_value(value: Value) -> Result<Self, ConversionError>;

    /// How a string becomes a list of this type. Only bytes have an answer (`Vec<u8>`); others
    /// refuse.
    ///
    /// # Errors
    /// [`ConversionError`] for every type but `u8`.
    fn list_from_bytes(bytes: Bytes) -> Result<Vec<Self>, ConversionError> {
        Err(ConversionError::new("a list", &Value::Bulk(bytes)))
    }

    /// How the elements of an array become a list of this type. By default each for itself; pairs
    /// also take two elements in turn, as RESP2 sends them.
    ///
    /// # Errors
    /// [`ConversionError`] when an element does not convert.
    fn list_from_items(items: Vec<Value>) -> Result<Vec<Self>, ConversionError> {
        items.into_iter().map(Self::from_value).collect()
    }
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        Ok(value)
    }
}

/// Any reply but an error will do.
impl FromValue for () {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Error(_) => Err(ConversionError::new("no error", &value)),
            _ => Ok(()),
        }
    }
}

macro_rules! from_integer {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Result<Self, ConversionError> {
                let converted = match &value {
                    Value::Integer(number) => Self::try_from(*number).ok(),
                    other => parse(other),
                };
                converted.ok_or_else(|| ConversionError::new(stringify!($type), &value))
            }
        }
    )*};
}

from_integer!(i16, u16, i32, u32, i64, u64, i128, isize, usize);

impl FromValue for u8 {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        let converted = match &value {
            Value::Integer(number) => Self::try_from(*number).ok(),
            other => parse(other),
        };
        converted.ok_or_else(|| ConversionError::new("u8", &value))
    }

    fn list_from_bytes(bytes: Bytes) -> Result<Vec<Self>, ConversionError> {
        Ok(bytes.into())
    }
}

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        let converted = match &value {
            Value::Double(number) => Some(*number),
            // Exact up to 2^53; beyond, the nearest double is what the caller asked for.
            Value::Integer(number) => Some(*number as f64),
            other => parse(other),
        };
        converted.ok_or_else(|| ConversionError::new("f64", &value))
    }
}

/// `true` for `#t`, a positive integer 1, the status `OK`, the string `1`; `false` for `#f`, 0 and
/// `0`.
impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match &value {
            Value::Boolean(truth) => Ok(*truth),
            Value::Integer(1) => Ok(true),
            Value::Integer(0) => Ok(false),
            Value::Simple(text) if &text[..] == b"OK" => Ok(true),
            Value::Bulk(text) if &text[..] == b"1" => Ok(true),
            Value::Bulk(text) if &text[..] == b"0" => Ok(false),
            other => Err(ConversionError::new("bool", other)),
        }
    }
}

/// The bytes of any string, without a copy.
impl FromValue for Bytes {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Bulk(bytes)
            | Value::Simple(bytes)
            | Value::BigNumber(bytes)
            | Value::Verbatim { text: bytes, .. } => Ok(bytes),
            Value::Integer(number) => {
                Ok(Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes()))
            }
            Value::Double(number) => Ok(Bytes::from(number.to_string())),
            other => Err(ConversionError::new("bytes", &other)),
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        let bytes = Bytes::from_value(value)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(ConversionError::new("UTF-8 text", &Value::Bulk(bytes))),
        }
    }
}

/// `None` for a null.
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// The elements of an array, set or push; the keys and values of a map in turn; a null is an empty
/// list. As `Vec<u8>`: the bytes of a string. As a list of pairs: the entries of a map, an array of
/// arrays of two (`ZRANGE WITHSCORES` in RESP3), or two elements in turn (the same in RESP2).
impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => {
                T::list_from_items(items)
            }
            Value::Map(entries) => T::list_from_items(
                entries.into_iter().flat_map(|(key, value)| [key, value]).collect(),
            ),
            Value::Null => Ok(Vec::new()),
            Value::Bulk(bytes) | Value::Simple(bytes) | Value::Verbatim { text: bytes, .. } => {
                T::list_from_bytes(bytes)
            }
            other => Err(ConversionError::new("a list", &other)),
        }
    }
}

impl<T: FromValue + Eq + Hash> FromValue for HashSet<T> {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Array(items) | Value::Set(items) => {
                items.into_iter().map(T::from_value).collect()
            }
            Value::Null => Ok(Self::new()),
            other => Err(ConversionError::new("a set", &other)),
        }
    }
}

impl<K: FromValue + Eq + Hash, V: FromValue> FromValue for HashMap<K, V> {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        pairs(value)?
            .into_iter()
            .map(|(key, value)| Ok((K::from_value(key)?, V::from_value(value)?)))
            .collect()
    }
}

impl<K: FromValue + Ord, V: FromValue> FromValue for BTreeMap<K, V> {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        pairs(value)?
            .into_iter()
            .map(|(key, value)| Ok((K::from_value(key)?, V::from_value(value)?)))
            .collect()
    }
}

macro_rules! from_tuple {
    ($count:literal: $($type:ident),*) => {
        /// An array of exactly as many elements.
        impl<$($type: FromValue),*> FromValue for ($($type,)*) {
            fn from_value(value: Value) -> Result<Self, ConversionError> {
                match value {
                    Value::Array(items) | Value::Push(items) if items.len() == $count => {
                        let mut items = items.into_iter();
                        Ok(($($type::from_value(items.next().expect("the length was checked"))?,)*))
                    }
                    other => Err(ConversionError::new(
                        concat!("an array of ", $count, " elements"),
                        &other,
                    )),
                }
            }
        }
    };
}

from_tuple!(1: A);
from_tuple!(3: A, B, C);
from_tuple!(4: A, B, C, D);
from_tuple!(5: A, B, C, D, E);
from_tuple!(6: A, B, C, D, E, F);

/// An array of exactly two elements. In lists also two elements in turn.
impl<A: FromValue, B: FromValue> FromValue for (A, B) {
    fn from_value(value: Value) -> Result<Self, ConversionError> {
        match value {
            Value::Array(items) | Value::Push(items) if items.len() == 2 => {
                let mut items = items.into_iter();
                let mut next = || items.next().expect("the length was checked");
                Ok((A::from_value(next())?, B::from_value(next())?))
            }
            other => Err(ConversionError::new("an array of 2 elements", &other)),
        }
    }

    fn list_from_items(items: Vec<Value>) -> Result<Vec<Self>, ConversionError> {
        pairs(Value::Array(items))?
            .into_iter()
            .map(|(first, second)| Ok((A::from_value(first)?, B::from_value(second)?)))
            .collect()
    }
}

fn parse<T: std::str::FromStr>(value: &Value) -> Option<T> {
    std::str::from_utf8(value.as_bytes()?).ok()?.parse().ok()
}

/// The entries of a map; of an array whose elements are all arrays of two, these; otherwise its
/// elements in turn.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, ConversionError> {
    let is_pair = |item: &Value| matches!(item, Value::Array(pair) if pair.len() == 2);
    match value {
        Value::Map(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        Value::Array(items) if items.iter().all(is_pair) => {
            let mut entries = Vec::with_capacity(items.len());
            for item in items {
                if let Value::Array(pair) = item
                    && let Ok([key, value]) = <[Value; 2]>::try_from(pair)
                {
                    entries.push((key, value));
                }
            }
            Ok(entries)
        }
        Value::Array(items) if items.len() % 2 == 0 => {
            let mut entries = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                entries.push((key, value));
            }
            Ok(entries)
        }
        other => Err(ConversionError::new("a map", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::ServerError;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn numbers_are_converted_without_loss() {
        assert_eq!(i64::from_value(Value::Integer(-3)), Ok(-3));
        assert_eq!(u64::from_value(bulk("18446744073709551615")), Ok(u64::MAX));
        assert!(u64::from_value(Value::Integer(-1)).is_err());
        assert!(u8::from_value(Value::Integer(256)).is_err());
        assert!(i64::from_value(bulk("12x")).is_err());
        assert_eq!(f64::from_value(bulk("1.5")), Ok(1.5));
        assert_eq!(f64::from_value(Value::Double(2.5)), Ok(2.5));
        assert_eq!(bool::from_value(Value::Integer(1)), Ok(true));
        assert!(bool::from_value(Value::Integer(2)).is_err());
    }

    #[test]
    fn strings_and_bytes() {
        assert_eq!(String::from_value(bulk("hé")), Ok("hé".to_owned()));
        assert!(String::from_value(Value::Bulk(Bytes::from_static(b"\xff"))).is_err());
        assert_eq!(Vec::<u8>::from_value(bulk("ab")), Ok(b"ab".to_vec()));
        assert_eq!(String::from_value(Value::Integer(7)), Ok("7".to_owned()));
        assert_eq!(Option::<String>::from_value(Value::Null), Ok(None));
        assert!(String::from_value(Value::Null).is_err());
    }

    #[test]
    fn lists_maps_and_tuples() {
        let flat = Value::Array(vec![bulk("a"), Value::Integer(1), bulk("b"), Value::Integer(2)]);
        let map = Value::Map(vec![(bulk("a"), Value::Integer(1)), (bulk("b"), Value::Integer(2))]);
        let expected = HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!(HashMap::<String, i32>::from_value(flat.clone()), Ok(expected.clone()));
        assert_eq!(HashMap::<String, i32>::from_value(map), Ok(expected));
        assert_eq!(
            <(String, u8, String, u8)>::from_value(flat.clone()),
            Ok(("a".to_owned(), 1, "b".to_owned(), 2))
        );
        assert!(<(String, u8)>::from_value(flat.clone()).is_err());
        assert!(HashMap::<String, i32>::from_value(Value::Array(vec![bulk("a")])).is_err());
        assert_eq!(Vec::<Option<i64>>::from_value(Value::Array(vec![Value::Null])), Ok(vec![None]));
        assert!(Vec::<i64>::from_value(bulk("12")).is_err());
    }

    #[test]
    fn pairs_come_as_a_map_nested_or_in_turn() {
        let nested = Value::Array(vec![
            Value::Array(vec![bulk("a"), Value::Double(1.5)]),
            Value::Array(vec![bulk("b"), Value::Double(2.0)]),
        ]);
        let flat = Value::Array(vec![bulk("a"), bulk("1.5"), bulk("b"), bulk("2")]);
        let map =
            Value::Map(vec![(bulk("a"), Value::Double(1.5)), (bulk("b"), Value::Double(2.0))]);
        let expected = vec![("a".to_owned(), 1.5), ("b".to_owned(), 2.0)];
        for value in [nested, flat, map] {
            assert_eq!(Vec::<(String, f64)>::from_value(value.clone()), Ok(expected.clone()));
            let as_map = HashMap::<String, f64>::from_value(value).expect("a map");
            assert_eq!(as_map, expected.iter().cloned().collect());
        }
        assert_eq!(Vec::<(String, f64)>::from_value(Value::Array(Vec::new())), Ok(Vec::new()));
        let odd = Value::Array(vec![bulk("a"), bulk("1"), bulk("b")]);
        assert!(Vec::<(String, f64)>::from_value(odd).is_err());
    }

    #[test]
    fn a_nested_server_error_is_an_error() {
        let error = Value::Error(ServerError::from_line(b"ERR no"));
        assert!(<()>::from_value(error.clone()).is_err());
        assert!(Option::<String>::from_value(error.clone()).is_err());
        assert!(Vec::<String>::from_value(Value::Array(vec![error])).is_err());
    }
}
