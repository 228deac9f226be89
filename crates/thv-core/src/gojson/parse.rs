//! A strict, bounded reader of JSON text.

use super::JsonString;
use super::value::{Json, JsonNumber};

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 128;

/// How many values a document may have. A value takes more memory than the two bytes that it may take in a file.
pub const MAX_VALUES: usize = 100_000;

/// Why bytes are not JSON. The text itself is not in the message: it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at line {line}, column {column}: {problem}")]
pub struct ParseJsonError {
    line: usize,
    column: usize,
    problem: &'static str,
}

impl ParseJsonError {
    /// The line of the problem, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column of the problem in bytes, from 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Json, ParseJsonError> {
    let text = replace_invalid_utf8(bytes);
    let mut parser = Parser {
        text: &text,
        at: 0,
        values: 0,
    };
    parser.skip_space();
    parser.value(0).map_err(|problem| parser.located(problem))
}

/// One U+FFFD for each byte that is not part of valid UTF-8, as Go does it.
fn replace_invalid_utf8(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

type Step<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn located(&self, problem: &'static str) -> ParseJsonError {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        ParseJsonError {
            line: before.split(|b| *b == b'\n').count(),
            column: 1 + before.len() - line_start,
            problem,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, literal: &'static str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        if found {
            self.at += literal.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Step<Json> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err("more values than a configuration can have");
        }
        match self.peek() {
            None => Err("unexpected end"),
            Some(b'{' | b'[') if depth >= MAX_DEPTH => Err("nested too deeply"),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(_) if self.take("true") => Ok(Json::Bool(true)),
            Some(_) if self.take("false") => Ok(Json::Bool(false)),
            Some(_) if self.take("null") => Ok(Json::Null),
            Some(_) => Err("expected a value"),
        }
    }

    fn object(&mut self, depth: usize) -> Step<Json> {
        self.at += 1;
        self.skip_space();
        if self.take("}") {
            return Ok(Json::Object(Vec::new()));
        }
        let mut pairs = Vec::with_capacity(4);
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err("expected a key");
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(":") {
                return Err("expected ':'");
            }
            self.skip_space();
            pairs.push((key, self.value(depth)?));
            self.skip_space();
            if self.take("}") {
                return Ok(Json::Object(pairs));
            }
            if !self.take(",") {
                return Err("expected ',' or '}'");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Step<Json> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth)?);
            self.skip_space();
            if self.take("]") {
                return Ok(Json::Array(items));
            }
            if !self.take(",") {
                return Err("expected ',' or ']'");
            }
        }
    }

    fn number(&mut self) -> Step<JsonNumber> {
        let start = self.at;
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        if self.take(".") {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(JsonNumber::from_valid(&self.text[start..self.at]))
    }

    fn digits(&mut self) -> Step<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err("expected a digit")
        } else {
            Ok(())
        }
    }

    fn string(&mut self) -> Step<JsonString> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut escaped = false;
        loop {
            let rest: &'a str = &self.text[self.at..];
            let end = rest
                .bytes()
                .position(|b| b == b'"' || b == b'\\' || b < 0x20)
                .ok_or("string without end")?;
            text.push_str(&rest[..end]);
            self.at += end;
            match rest.as_bytes()[end] {
                b'"' => {
                    self.at += 1;
                    let literal = &self.text[start..self.at];
                    return Ok(if escaped {
                        JsonString::from_literal(text, literal)
                    } else {
                        text.into()
                    });
                }
                b'\\' => {
                    self.at += 1;
                    escaped = true;
                    text.push(self.escape()?);
                }
                _ => return Err("control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Step<char> {
        let kind = self.peek().ok_or("string without end")?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => {
                self.at -= 1;
                return Err("unknown escape");
            }
        })
    }

    /// A lone half of a surrogate pair becomes U+FFFD, as in Go.
    fn unicode_escape(&mut self) -> Step<char> {
        let unit = self.hex4()?;
        if (0xD800..0xDC00).contains(&unit) {
            let after_first = self.at;
            if self.take("\\u") {
                let low = self.hex4()?;
                if (0xDC00..0xE000).contains(&low) {
                    let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                    return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                self.at = after_first;
            }
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Step<u32> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or("expected four hexadecimal digits")?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| "expected four hexadecimal digits")
    }
}
