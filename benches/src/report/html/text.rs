//! Text for pages: everything that came from outside is escaped here, and numbers become words.

/// Stands where nothing was measured.
pub const UNKNOWN: &str = "–";

/// Escapes text for element content and quoted attributes. Control characters and those that change
/// the direction of writing become visible, so that no text can pose as another.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\r' | '\t' => escaped.push(' '),
            c if c.is_control() || is_invisible(c) => {
                escaped.push_str(&c.escape_unicode().to_string());
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Characters of no width and those that turn the direction of writing.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// JSON text for a `script` element, without the space between its parts. `<` occurs only in strings, and is
/// written as an escape there.
pub fn json_in_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            c if c.is_ascii_whitespace() && !in_string => {}
            c => text.push(c),
        }
        in_string ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
    }
    text
}

/// The start of a text, and a mark where the rest was cut off.
pub fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(most.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

/// Three digits are enough for people.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => UNKNOWN.to_owned(),
        v if v >= 999_500_000.0 => format!("{value:.2e}"),
        v if v >= 999_500.0 => format!("{:.2}M", value / 1e6),
        v if v >= 99_950.0 => format!("{:.0}k", value / 1e3),
        v if v >= 9_995.0 => format!("{:.1}k", value / 1e3),
        v if v >= 999.5 => format!("{:.2}k", value / 1e3),
        v if v >= 99.95 || v == v.trunc() => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.095 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A time in microseconds, in the unit that keeps it short.
pub fn micros(value: f64) -> String {
    match value.abs() {
        v if v >= 999_500.0 => format!("{} s", figure(value / 1e6)),
        v if v >= 999.5 => format!("{} ms", figure(value / 1e3)),
        v if v < 1.0 && v > 0.0 => format!("{} ns", figure(value * 1e3)),
        _ => format!("{} µs", figure(value)),
    }
}

/// A count, with its thousands apart.
pub fn count(value: f64) -> String {
    if !value.is_finite() || value.abs() >= 1e15 {
        return figure(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value <= -0.5 {
        text.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A signed number with a real minus sign.
pub fn signed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    if text.chars().all(|c| matches!(c, '0' | '.')) {
        text
    } else if value < 0.0 {
        format!("−{text}")
    } else {
        format!("+{text}")
    }
}

/// A text for a value that may be unknown.
pub fn or_unknown(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// A sentence that begins as sentences do.
pub fn capital(sentence: &str) -> String {
    let mut characters = sentence.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// Names in a sentence. If there are many, the last ones are only counted.
pub fn list(names: &[String]) -> String {
    const MOST: usize = 6;
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] if names.len() <= MOST => format!("{} and {last}", rest.join(", ")),
        _ => format!("{} and {} more", names[..MOST - 1].join(", "), names.len() + 1 - MOST),
    }
}

/// The names of rows as the subject of a sentence.
pub fn are(names: &[String]) -> String {
    format!("{} {}", list(names), if names.len() == 1 { "is" } else { "are" })
}

/// Why rows have no place in a ranking.
pub fn too_much_scatter(rows: usize) -> String {
    format!("{} rounds scatter too much", if rows == 1 { "its" } else { "their" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let text = escape("</script><img onerror=\"x\">&'\u{202e}\0");
        assert!(!text.contains(['<', '>', '"', '\'', '\u{202e}', '\0']), "{text}");
        assert!(text.contains("\\u{202e}"), "{text}");
        let json = json_in_script("{ \"a\" :\n \"</script><!--\" }");
        assert!(!json.contains('<'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["a"], "</script><!--");
        let json = json_in_script(r#"[ "a \" b", 1, "\\", " " ]"#);
        assert_eq!(json, r#"["a \" b",1,"\\"," "]"#);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(1234.0), "1.23k");
        assert_eq!(figure(f64::NAN), UNKNOWN);
        assert_eq!(figure(99.96), "100");
        assert_eq!(micros(1190.0), "1.19 ms");
        assert_eq!(micros(0.13), "130 ns");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(-12.0), "−12");
        assert_eq!(signed(-1.25, 1), "−1.2");
        assert_eq!(signed(0.01, 1), "0.0");
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = ('a'..='i').map(String::from).collect();
        assert_eq!(list(&names[..1]), "a");
        assert_eq!(list(&names[..3]), "a, b and c");
        assert_eq!(list(&names), "a, b, c, d, e and 4 more");
        assert_eq!(clip("abcdef", 4), "abc…");
    }
}
