//! The writer: a formatter for `serde_json` with Go's habits.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// `value` as Go's encoder writes it with an indent of two spaces; no newline at the end.
///
/// Fails only if the value's own `Serialize` does.
pub fn to_string_pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    write(value, GoFormatter::new(true))
}

/// `value` as Go's encoder writes it without indent; no newline at the end.
///
/// Fails only if the value's own `Serialize` does.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    write(value, GoFormatter::new(false))
}

fn write<T: Serialize + ?Sized>(value: &T, formatter: GoFormatter) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    String::from_utf8(bytes).map_err(|error| serde::ser::Error::custom(error.utf8_error()))
}

/// A floating point number as Go writes it: the shortest digits, without exponent between 1e-6 and 1e21.
pub(super) fn go_float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        format!("{value}")
    } else {
        let text = format!("{value:e}");
        if size >= 1e21 {
            text.replace('e', "e+")
        } else {
            text
        }
    }
}

struct GoFormatter {
    pretty: bool,
    depth: usize,
    /// Whether the innermost array or object has a member already.
    has_member: bool,
}

impl GoFormatter {
    fn new(pretty: bool) -> Self {
        Self {
            pretty,
            depth: 0,
            has_member: false,
        }
    }

    fn new_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        if self.pretty {
            writer.write_all(b"\n")?;
            for _ in 0..self.depth {
                writer.write_all(b"  ")?;
            }
        }
        Ok(())
    }

    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.has_member = false;
        writer.write_all(&[bracket])
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.has_member {
            self.new_line(writer)?;
        }
        self.has_member = true;
        writer.write_all(&[bracket])
    }

    fn member<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.has_member = true;
        self.new_line(writer)
    }
}

impl Formatter for GoFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(go_float(value).as_bytes())
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        // The shortest digits of the 32-bit number, not those of its 64-bit neighbour.
        let size = value.abs();
        if size == 0.0 || (1e-6..1e21).contains(&size) {
            write!(writer, "{value}")
        } else {
            let text = format!("{value:e}");
            let text = if size >= 1e21 {
                text.replace('e', "e+")
            } else {
                text
            };
            writer.write_all(text.as_bytes())
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        write_html_escaped(writer, text)
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let short: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"\\/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(short)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.member(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_member = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.member(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.pretty { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_member = true;
        Ok(())
    }

    /// A `RawValue` is laid out anew, with its keys in their order and its escapes and numbers untouched.
    fn write_raw_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, json: &str) -> io::Result<()> {
        let outer = (self.depth, self.has_member);
        let mut rest = json;
        let mut after_open = false;
        while let Some(first) = rest.bytes().next() {
            let length = if first == b'"' {
                string_length(rest)
            } else {
                rest.chars().next().map_or(1, char::len_utf8)
            };
            let (token, tail) = rest.split_at(length);
            rest = tail;
            match first {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'}' | b']' => {
                    self.has_member = !after_open;
                    self.close(writer, first)?;
                    after_open = false;
                    continue;
                }
                _ if after_open => self.new_line(writer)?,
                _ => {}
            }
            after_open = matches!(first, b'{' | b'[');
            match first {
                b'{' | b'[' => self.open(writer, first)?,
                b',' => self.member(writer, false)?,
                b':' => self.begin_object_value(writer)?,
                b'"' => write_html_escaped(writer, token)?,
                _ => writer.write_all(token.as_bytes())?,
            }
        }
        (self.depth, self.has_member) = outer;
        Ok(())
    }
}

/// How many bytes the string literal at the start of `text` takes, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `text` with the characters escaped that Go escapes in every string.
pub(super) fn html_escaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    write_html_escaped(&mut bytes, text).expect("writing to memory cannot fail");
    String::from_utf8(bytes).expect("text and escapes are UTF-8")
}

/// `text` as Go writes it, with its quotes.
pub(super) fn string_literal(text: &str) -> String {
    to_string(text).expect("a string can always be written to memory")
}

fn write_html_escaped<W: ?Sized + io::Write>(writer: &mut W, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while let Some(first) = bytes.get(at) {
        let (escape, length): (&[u8], usize) = match first {
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => {
                at += 1;
                continue;
            }
        };
        writer.write_all(&bytes[from..at])?;
        writer.write_all(escape)?;
        at += length;
        from = at;
    }
    writer.write_all(&bytes[from..])
}
