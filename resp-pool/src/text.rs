//! Makes text of a peer or a caller safe for error messages and log lines.

use std::fmt::{self, Write};

/// Shows at most `most` bytes of `text`, with control characters escaped, so that a server can
/// neither break lines of a log, nor colour a terminal, nor fill either.
pub(crate) struct Shown<'a> {
    pub(crate) text: &'a str,
    pub(crate) most: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.text.char_indices() {
            if at + character.len_utf8() > self.most {
                return write!(f, "... (cut after {} bytes)", self.most);
            }
            if is_plain(character) {
                f.write_char(character)?;
            } else {
                write!(f, "{}", character.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Neither a control character nor one that changes lines or the direction of the text around it.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_length_is_bounded() {
        let shown = |text, most| Shown { text, most }.to_string();
        assert_eq!(
            shown("a\r\n\u{1b}[31m\u{85}\u{202e}é'\\", 100),
            r"a\r\n\u{1b}[31m\u{85}\u{202e}é'\"
        );
        assert_eq!(shown("hello", 5), "hello");
        assert_eq!(shown("hello!", 5), "hello... (cut after 5 bytes)");
        assert_eq!(shown("éé", 3), "é... (cut after 3 bytes)");
    }
}
