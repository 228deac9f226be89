//! The JSON-RPC envelope, found in raw bytes.
//!
//! A proxy needs a handful of top-level members and must leave everything else as it came. [`scan`] checks in one
//! pass that a message is well-formed JSON and notes where those members are; nothing is decoded, copied or
//! re-encoded. Work and memory are bounded: one pass, a fixed depth, a fixed number of top-level members.

mod fragment;
mod meta;
mod names;

use std::fmt;

pub use self::fragment::{ids_at_end, ids_at_start};
pub(crate) use self::meta::{Twice, insert, member_however_written, meta_in, one_member, with_meta};
use self::names::differs_in_case;
pub(crate) use self::names::{could_mean, decodes_to, is_unclear};

/// Nesting beyond this is refused: no honest message comes near it, and it protects the servers behind the proxy.
pub const MAX_DEPTH: usize = 512;
/// More top-level members than this are refused.
pub const MAX_MEMBERS: usize = 32;

/// The members of a message.
const KNOWN: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// A half-open byte range in the scanned message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The first byte behind it.
    pub end: usize,
}

impl Span {
    /// The bytes it stands for.
    ///
    /// # Panics
    /// When `bytes` is shorter than the message that was scanned.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.end]
    }
}

/// Where the members of one JSON-RPC message are; values include their quotes or brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope {
    /// `id`, whatever its type.
    pub id: Option<Span>,
    /// `method`, with its quotes.
    pub method: Option<Span>,
    /// `params`.
    pub params: Option<Span>,
    /// `result`.
    pub result: Option<Span>,
    /// `error`.
    pub error: Option<Span>,
    /// Carriage returns or line feeds stand between tokens: the message is not yet one line.
    pub line_breaks: bool,
    /// A member name in `params` or one level below is written with escapes.
    pub escaped_names: bool,
    kind: Kind,
}

/// What a JSON-RPC message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Method and id: wants an answer.
    Request,
    /// Method without id.
    #[default]
    Notification,
    /// Result or error.
    Response,
}

/// Why bytes are not a JSON-RPC 2.0 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Not well-formed JSON.
    #[error("not well-formed JSON at byte {at}")]
    Syntax {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// The text is not UTF-8.
    #[error("not UTF-8 at byte {at}")]
    Encoding {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// A JSON-RPC batch.
    #[error("a JSON-RPC batch")]
    Batch,
    /// Deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_MEMBERS`] top-level members.
    #[error("more than {MAX_MEMBERS} top-level members")]
    TooManyMembers,
    /// A top-level name stands twice; parsers disagree about which counts.
    #[error("the same top-level member twice")]
    Duplicate,
    /// A top-level name differs from a known one only in case; some parsers take the one for the other.
    #[error("a top-level member name that differs from a known one in case")]
    Case,
    /// A top-level name is written with escapes; it could hide a duplicate.
    #[error("a top-level member name with escapes")]
    EscapedName,
    /// Well-formed JSON, but not a JSON-RPC 2.0 message.
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    NotJsonRpc {
        /// Which rule is broken.
        reason: &'static str,
    },
}

impl Envelope {
    /// Request, notification or response.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The method's text between its quotes; empty for a response. Escapes are not decoded.
    pub fn method_in<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        self.method.map_or(&[], |span| unquoted(span.of(message)))
    }

    /// The text of `id` as it was sent.
    pub fn id_in<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        self.id.map_or(&[], |span| span.of(message))
    }

    /// The text of `params`; empty when there is none.
    pub fn params_in<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        self.params.map_or(&[], |span| span.of(message))
    }
}

/// Checks `message` and finds its envelope.
pub fn scan(message: &[u8]) -> Result<Envelope, ScanError> {
    if let Err(error) = std::str::from_utf8(message) {
        return Err(ScanError::Encoding {
            at: error.valid_up_to(),
        });
    }
    let mut parser = Parser::new(message);
    parser.skip_space();
    match parser.peek() {
        Some(b'{') => {}
        Some(b'[') => return Err(ScanError::Batch),
        _ => {
            parser.value()?;
            return Err(ScanError::NotJsonRpc {
                reason: "not an object",
            });
        }
    }
    let mut found = Found::default();
    parser.object(|name, value| found.take(message, name, value))?;
    parser.skip_space();
    if parser.at != message.len() {
        return Err(parser.syntax());
    }
    found.finish(message, &parser)
}

/// Whether the first token of `message` opens an array.
pub fn is_batch(message: &[u8]) -> bool {
    message
        .iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        == Some(&b'[')
}

/// The value of `name` in `object`, which was scanned before; `None` when it is absent, stands there twice or `object`
/// is no object.
pub fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    member_span(object, name).map(|span| span.of(object))
}

/// As [`member`], as a span in `object`.
pub fn member_span(object: &[u8], name: &str) -> Option<Span> {
    let mut parser = Parser::new(object);
    parser.skip_space();
    if parser.peek() != Some(b'{') {
        return None;
    }
    let mut found = None;
    let mut twice = false;
    parser
        .object(|key, value| {
            if key.text(object) == name.as_bytes() {
                twice |= found.replace(value).is_some();
            }
            Ok(())
        })
        .ok()?;
    if twice { None } else { found }
}

/// Shows `see` each member of `object`: its name, quotes included, and its value. What is no object has none.
pub(crate) fn each_member(object: &[u8], mut see: impl FnMut(&[u8], &[u8])) {
    let mut parser = Parser::new(object);
    parser.skip_space();
    let _ = parser.object(|name, value| {
        see(name.span.of(object), value.of(object));
        Ok(())
    });
}

/// Whether `matches` any member name of `object`, quotes included.
pub(crate) fn any_name(object: &[u8], matches: impl Fn(&[u8]) -> bool) -> bool {
    let mut found = false;
    let mut parser = Parser::new(object);
    parser.skip_space();
    // What is no object has no names.
    let _ = parser.object(|name, _| {
        found |= matches(name.span.of(object));
        Ok(())
    });
    found
}

/// A text between its quotes; anything else as it is.
pub fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(text)
}

/// The text that a JSON string means; none when it is no string.
pub(crate) fn text(string: &[u8]) -> Option<String> {
    serde_json::from_slice(string).ok()
}

/// `text` as a JSON string, quotes included.
pub fn quoted(text: impl fmt::Display) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

/// What the top level held.
#[derive(Default)]
struct Found {
    envelope: Envelope,
    version: Option<Span>,
    /// Names that mean nothing here; mostly there is none.
    others: Vec<Name>,
    count: usize,
}

impl Found {
    fn take(&mut self, message: &[u8], name: Name, value: Span) -> Result<(), ScanError> {
        let text = name.text(message);
        if name.escaped {
            return Err(ScanError::EscapedName);
        }
        if self.count == MAX_MEMBERS {
            return Err(ScanError::TooManyMembers);
        }
        self.count += 1;
        let member = match text {
            b"jsonrpc" => &mut self.version,
            b"id" => &mut self.envelope.id,
            b"method" => &mut self.envelope.method,
            b"params" => &mut self.envelope.params,
            b"result" => &mut self.envelope.result,
            b"error" => &mut self.envelope.error,
            other if KNOWN.iter().any(|known| differs_in_case(other, known)) => return Err(ScanError::Case),
            other => {
                if self.others.iter().any(|seen| seen.text(message) == other) {
                    return Err(ScanError::Duplicate);
                }
                self.others.push(name);
                return Ok(());
            }
        };
        match member.replace(value) {
            Some(_) => Err(ScanError::Duplicate),
            None => Ok(()),
        }
    }

    fn finish(mut self, message: &[u8], parser: &Parser<'_>) -> Result<Envelope, ScanError> {
        let refuse = |reason| Err(ScanError::NotJsonRpc { reason });
        if self.version.map(|span| span.of(message)) != Some(b"\"2.0\"") {
            return refuse("\"jsonrpc\" is not \"2.0\"");
        }
        let first = |span: Option<Span>| span.map(|span| message[span.start]);
        let envelope = &mut self.envelope;
        envelope.line_breaks = parser.line_breaks;
        envelope.escaped_names = parser.escaped_names;
        envelope.kind = match (
            first(envelope.method),
            envelope.id,
            envelope.result,
            envelope.error,
        ) {
            (Some(b'"'), None, None, None) => Kind::Notification,
            (Some(b'"'), Some(_), None, None) => Kind::Request,
            (None, Some(_), Some(_), None) | (None, _, None, Some(_)) => Kind::Response,
            (Some(b'"') | None, ..) => return refuse("neither a request, a notification nor a response"),
            _ => return refuse("\"method\" is not a string"),
        };
        let id_fits = match first(envelope.id) {
            None | Some(b'"' | b'-' | b'0'..=b'9') => true,
            Some(b'n') => envelope.kind == Kind::Response,
            Some(_) => false,
        };
        if !id_fits {
            return refuse("\"id\" is neither a string nor a number");
        }
        if !matches!(first(envelope.params), None | Some(b'{' | b'[' | b'n')) {
            return refuse("\"params\" is neither an object nor an array nor null");
        }
        Ok(self.envelope)
    }
}

/// A checking, non-recursive JSON reader.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    line_breaks: bool,
    escaped_names: bool,
}

/// The name of a member.
#[derive(Debug, Clone, Copy)]
struct Name {
    /// With its quotes.
    span: Span,
    escaped: bool,
}

impl Name {
    /// Without its quotes.
    fn text(self, message: &[u8]) -> &[u8] {
        &message[self.span.start + 1..self.span.end - 1]
    }
}

/// Plain string content is skipped by blocks of this size, in a form that compilers vectorise, and by words of this one.
const BLOCK: usize = 32;
const WORD: usize = 8;
/// A string of so many words is taken to be a long one.
const WORDS: usize = 2;

/// Whether a byte ends a run of plain string content: 1 or 0.
fn special(byte: u8) -> u8 {
    u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\')
}

/// The lowest bit that is set is the highest of the first byte of `word`, in the order of memory, that is special; none
/// where there is no such byte.
fn special_in(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (EACH << 7)
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            line_breaks: false,
            escaped_names: false,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn syntax(&self) -> ScanError {
        ScanError::Syntax { at: self.at }
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek().filter(|&byte| byte <= b' ') {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.line_breaks = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.peek() != Some(byte) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    /// An object at the cursor; `member` is told each name and value of its own level.
    fn object(
        &mut self,
        mut member: impl FnMut(Name, Span) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        self.expect(b'{')?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.name()?;
            self.skip_space();
            let start = self.at;
            self.value()?;
            member(name, Span { start, end: self.at })?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    /// A member name and its colon.
    fn name(&mut self) -> Result<Name, ScanError> {
        self.skip_space();
        let start = self.at;
        let escaped = self.string()?;
        let span = Span { start, end: self.at };
        self.skip_space();
        self.expect(b':')?;
        Ok(Name { span, escaped })
    }

    /// The name of a member of a value; one near the top is looked at.
    fn inner_name(&mut self, open: &Containers) -> Result<(), ScanError> {
        let name = self.name()?;
        self.escaped_names |= name.escaped && open.depth <= 2;
        Ok(())
    }

    /// One value of any type.
    fn value(&mut self) -> Result<(), ScanError> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    /// An object or array, cursor on its bracket, without recursion.
    fn container(&mut self) -> Result<(), ScanError> {
        let mut open = Containers::default();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        open.push(true)?;
                        self.inner_name(&open)?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        open.push(false)?;
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here. True when nothing is open any more.
    fn close(&mut self, open: &mut Containers) -> Result<bool, ScanError> {
        loop {
            let Some(in_object) = open.top() else {
                return Ok(true);
            };
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if in_object {
                        self.inner_name(open)?;
                    }
                    return Ok(false);
                }
                Some(b'}') if in_object => open.pop(),
                Some(b']') if !in_object => open.pop(),
                _ => return Err(self.syntax()),
            }
            self.at += 1;
        }
    }

    fn scalar(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(self.syntax()),
        }
    }

    fn literal(&mut self, text: &[u8]) -> Result<(), ScanError> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(self.syntax());
        }
        self.at += text.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            Err(self.syntax())
        } else {
            Ok(())
        }
    }

    /// Whether it has escapes.
    fn string(&mut self) -> Result<bool, ScanError> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    /// Most strings are short: words first, by blocks what is longer, then the word in which it ends.
    fn skip_plain(&mut self) {
        let mut rest = &self.bytes[self.at..];
        let mut words = 0;
        let plain = loop {
            let Some((word, behind)) = rest.split_first_chunk::<WORD>() else {
                break rest.iter().take_while(|&&byte| special(byte) == 0).count();
            };
            let found = special_in(u64::from_le_bytes(*word));
            if found != 0 {
                break found.trailing_zeros() as usize / 8;
            }
            rest = behind;
            words += 1;
            if words == WORDS {
                while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>()
                    && block.iter().fold(0, |seen, &byte| seen | special(byte)) == 0
                {
                    rest = behind;
                }
            }
        };
        self.at = self.bytes.len() - rest.len() + plain;
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.syntax());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }
}

/// The containers that are open: one bit each, set for an object.
#[derive(Default)]
struct Containers {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Containers {
    fn push(&mut self, object: bool) -> Result<(), ScanError> {
        if self.depth == MAX_DEPTH {
            return Err(ScanError::TooDeep);
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn top(&self) -> Option<bool> {
        let index = self.depth.checked_sub(1)?;
        Some(self.bits[index / 64] >> (index % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
