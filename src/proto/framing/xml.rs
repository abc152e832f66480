//! XML documents, one behind the other: each ends with its root.
//!
//! ```text
//!  <?xml version="1.0"?> <!-- a > b --> <a b="1 > 0"><c/>text</a> <d/>
//!  └────────────────────── 1 ────────────────────────────────────┘└ 2 ┘
//! ```
//!
//! This finds where documents end and is no parser: it does not compare the names of
//! end tags or look into text. It does know comments, processing instructions, CDATA
//! and quotes, in which a `<` or `>` means nothing. A DOCTYPE is refused: what it can
//! define (entities that grow without end, files to be read) is no business of a
//! message.

use std::mem;

use memchr::memchr;

use super::blocks::{BLOCK, find};
use super::{ConfigError, Decoded, Encode, EncodeError, FrameError, Framing, check_len, spec};

/// One XML document (XML 1.0, in UTF-8 or another encoding that has ASCII in it) is one
/// message, from its first `<` to the end of its root element; prolog and comments
/// before the root belong to it.
///
/// White space between documents is skipped, and a byte order mark of UTF-8. UTF-16 and
/// its like are refused, in their bytes or in the XML declaration. A message is written
/// with LF behind it; whether it is XML is the service's business. SPEC word `xml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xml {
    max: usize,
    depth: usize,
}

impl Default for Xml {
    fn default() -> Self {
        Self { max: spec::DEFAULT_MAX, depth: DEFAULT_DEPTH }
    }
}

impl Xml {
    /// The longest document, in bytes. Default: 1 MiB. A longer one is
    /// [`FrameError::TooLong`] and ends the connection.
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// How deep elements may nest, 1 to 65,536, the root being the first. Default: 128.
    /// A deeper document is [`FrameError::TooDeep`] and ends the connection.
    pub fn depth(mut self, levels: usize) -> Self {
        self.depth = levels;
        self
    }
}

const DEFAULT_DEPTH: usize = 128;
/// A level costs nothing here, but whoever parses the message may spend stack on it.
const MAX_DEPTH: usize = 1 << 16;
/// What UTF-8 may begin with.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Behind the `<?` that a document begins with.
const FIRST: usize = 2;
/// Attributes of one element. More make common parsers slow.
const MAX_ATTRIBUTES: usize = 256;

/// How far one document has been looked at. Its bytes are looked at once, however they
/// are cut.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Bytes of the document that have been looked at.
    seen: usize,
    place: Place,
    /// Elements that are open.
    depth: usize,
    /// Of the tag that is open.
    attributes: usize,
    /// Where the comment, CDATA or instruction that is open begins.
    since: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between tags.
    #[default]
    Text,
    /// Behind `<`.
    Open,
    /// Behind `<!`.
    Bang,
    StartTag,
    EndTag,
    /// In an attribute, which ends with this quote.
    Quoted(u8),
    Comment,
    CData,
    /// In a processing instruction, or the XML declaration.
    Instruction,
}

/// Goes from mark to mark: from one `<`, `>` or quote to the next.
///
/// One search for all of them, and then a look at the byte, is faster than a search for
/// each: most of the time the next mark is the one that is waited for.
struct Marks<'a> {
    value: &'a [u8],
    /// Where the block begins that `found` is of.
    base: usize,
    /// The places in it that have not been visited.
    found: u64,
}

impl<'a> Marks<'a> {
    #[inline(always)]
    fn new(value: &'a [u8], from: usize) -> Self {
        let mut marks = Self { value, base: from, found: 0 };
        marks.look();
        marks
    }

    /// Looks for marks in the block at `base`.
    #[inline(always)]
    fn look(&mut self) {
        let rest = self.value.get(self.base..).unwrap_or(&[]);
        // `<` and `>` differ in one bit. Fewer kinds than three are slower: of those the
        // compiler makes no vector instructions.
        let kinds = |byte: u8| [byte | 2 == b'>', byte == b'"', byte == b'\''];
        let [tags, double, single] = match rest.first_chunk() {
            Some(block) => find(block, kinds),
            None => {
                let mut block = [b' '; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                find(&block, kinds)
            }
        };
        self.found = (tags | double | single).places();
    }

    /// The next mark.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            self.base += BLOCK;
            if self.base >= self.value.len() {
                return None;
            }
            self.look();
        }
        let at = self.base + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(at)
    }

    /// The next mark that is this byte, which may be far away: what a whole block lacks
    /// is searched faster than looked for.
    #[inline(always)]
    fn far(&mut self, byte: u8) -> Option<usize> {
        let mut whole = false;
        loop {
            while self.found != 0 {
                let at = self.base + self.found.trailing_zeros() as usize;
                self.found &= self.found - 1;
                if self.value[at] == byte {
                    return Some(at);
                }
            }
            self.base += BLOCK;
            if self.base >= self.value.len() {
                return None;
            }
            if whole {
                self.base += memchr(byte, &self.value[self.base..])?;
            }
            self.look();
            whole = true;
        }
    }
}

impl Walk {
    /// Looks at what has not been looked at of a document; says where it ends.
    fn look(&mut self, value: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
        // A copy that nothing else can see stays in registers.
        let mut walk = mem::take(self);
        let end = walk.go(value, limit);
        *self = walk;
        end
    }

    /// One element, comment or the like after the other. What follows what most of the
    /// time follows in here as well, which saves jumps that cannot be predicted.
    #[inline(always)]
    fn go(&mut self, value: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
        let mut marks = Marks::new(value, self.seen);
        let mut at = mem::replace(&mut self.seen, value.len());
        loop {
            if self.place == Place::Text {
                let Some(less) = self.text(value, at, &mut marks)? else { return Ok(None) };
                at = less + 1;
            }
            if self.place == Place::Open {
                let Some(_) = self.open(value, at)? else { return Ok(None) };
                at += 1;
            }
            // The two that are most of them, without a jump table.
            if matches!(self.place, Place::StartTag | Place::Quoted(_) | Place::EndTag) {
                let mark = if self.place == Place::EndTag {
                    self.end_tag(value, &mut marks)?
                } else {
                    self.start_tag(value, &mut marks, limit)?
                };
                match mark {
                    Some(mark) if self.depth == 0 => return Ok(Some(mark + 1)),
                    Some(mark) => at = mark + 1,
                    None => return Ok(None),
                }
                continue;
            }
            let mark = match self.place {
                Place::Bang => {
                    let mark = self.bang(value, at)?;
                    if mark.is_none() {
                        // A few bytes, looked at again when there are more.
                        self.seen = at;
                    }
                    mark
                }
                _ => {
                    let mark = marks.far(b'>');
                    if let Some(mark) = mark
                        && self.ends(&value[..mark])
                    {
                        if self.place == Place::Instruction && self.since == FIRST {
                            check_encoding(&value[FIRST..mark])?;
                        }
                        self.place = Place::Text;
                    }
                    mark
                }
            };
            match mark {
                Some(mark) => at = mark + 1,
                None => return Ok(None),
            }
        }
    }

    /// Looks for `<`: in the prolog nothing but white space stands before it.
    #[inline(always)]
    fn text(
        &mut self,
        value: &[u8],
        at: usize,
        marks: &mut Marks<'_>,
    ) -> Result<Option<usize>, FrameError> {
        let less = if self.depth > 0 { marks.far(b'<') } else { marks.next() };
        if self.depth == 0 {
            let between = &value[at..less.unwrap_or(value.len())];
            let text = between.iter().position(|&byte| !is_space(byte)).map(|off| at + off);
            if let Some(at) = text.or(less.filter(|&mark| value[mark] != b'<')) {
                return Err(wrong(value, at, "white space or < before the root element"));
            }
        }
        if less.is_some() {
            self.place = Place::Open;
        }
        Ok(less)
    }

    /// Looks at the byte behind `<`.
    #[inline(always)]
    fn open(&mut self, value: &[u8], at: usize) -> Result<Option<usize>, FrameError> {
        let Some(&byte) = value.get(at) else { return Ok(None) };
        // Most are one of two.
        self.place = if byte == b'/' && self.depth > 0 {
            Place::EndTag
        } else if byte.is_ascii_alphabetic() {
            self.attributes = 0;
            Place::StartTag
        } else {
            self.open_rarely(value, at)?
        };
        Ok(Some(at))
    }

    #[cold]
    fn open_rarely(&mut self, value: &[u8], at: usize) -> Result<Place, FrameError> {
        match value[at] {
            b'_' | b':' | 0x80.. => {
                self.attributes = 0;
                Ok(Place::StartTag)
            }
            b'/' => Err(wrong(value, at, "no end tag before the root element")),
            b'!' => Ok(Place::Bang),
            b'?' => {
                self.since = at + 1;
                Ok(Place::Instruction)
            }
            _ => Err(wrong(value, at, "a name, /, ! or ? behind <")),
        }
    }

    /// Looks at what stands behind `<!`. Returns its last byte, if it has come.
    fn bang(&mut self, value: &[u8], at: usize) -> Result<Option<usize>, FrameError> {
        let rest = &value[at..];
        let kinds = [(&b"--"[..], Place::Comment), (b"[CDATA[", Place::CData)];
        // CDATA is text, and there is none before the root.
        let mut possible = kinds[..1 + usize::from(self.depth > 0)].iter();
        let begun = possible.find(|(word, _)| word.first() == rest.first());
        let (word, place) = match (begun, rest) {
            (Some(&kind), _) => kind,
            (None, []) => return Ok(None),
            (None, _) => {
                return Err(wrong(
                    value,
                    at,
                    "-- of a comment or, in text, [CDATA[; DOCTYPE is refused",
                ));
            }
        };
        if let Some(off) = rest.iter().zip(word).position(|(byte, wanted)| byte != wanted) {
            return Err(wrong(value, at + off, "the rest of <!-- or <![CDATA["));
        }
        if rest.len() < word.len() {
            return Ok(None);
        }
        (self.place, self.since) = (place, at + word.len());
        Ok(Some(at + word.len() - 1))
    }

    /// Looks for the end of a start tag, past its attributes.
    #[inline(always)]
    fn start_tag(
        &mut self,
        value: &[u8],
        marks: &mut Marks<'_>,
        limit: usize,
    ) -> Result<Option<usize>, FrameError> {
        loop {
            if let Place::Quoted(quote) = self.place {
                loop {
                    let Some(at) = marks.next() else { return Ok(None) };
                    if value[at] == quote {
                        break;
                    }
                }
                self.place = Place::StartTag;
            }
            let Some(at) = marks.next() else { return Ok(None) };
            // Not a match, of which a jump table is made.
            let byte = value[at];
            if byte == b'>' {
                if self.depth == limit {
                    return Err(FrameError::TooDeep { max: limit });
                }
                self.place = Place::Text;
                // An empty element is closed already.
                self.depth += usize::from(value[at - 1] != b'/');
                return Ok(Some(at));
            }
            if byte == b'<' {
                return Err(wrong(value, at, "the > of a tag before another <"));
            }
            if self.attributes == MAX_ATTRIBUTES {
                let what = "more than 256 attributes in one element";
                return Err(FrameError::Invalid { what });
            }
            self.attributes += 1;
            self.place = Place::Quoted(byte);
        }
    }

    /// Looks for the end of an end tag.
    #[inline(always)]
    fn end_tag(
        &mut self,
        value: &[u8],
        marks: &mut Marks<'_>,
    ) -> Result<Option<usize>, FrameError> {
        loop {
            let Some(at) = marks.next() else { return Ok(None) };
            match value[at] {
                b'>' => {
                    self.place = Place::Text;
                    self.depth -= 1;
                    return Ok(Some(at));
                }
                b'<' => return Err(wrong(value, at, "the > of a tag before another <")),
                _ => {}
            }
        }
    }

    /// Whether the `>` behind `value` ends the comment, CDATA or instruction. What opens
    /// it does not count: `<!-->` is not over.
    #[inline(always)]
    fn ends(&self, value: &[u8]) -> bool {
        let end: &[u8] = match self.place {
            Place::Comment => b"--",
            Place::CData => b"]]",
            _ => b"?",
        };
        value.get(self.since..).is_some_and(|content| content.ends_with(end))
    }
}

/// Refuses an XML declaration that names an encoding in which `<` is not always the byte
/// `<`: where its documents end cannot be said here. One that lies would be believed by
/// whoever parses the message.
fn check_encoding(declaration: &[u8]) -> Result<(), FrameError> {
    const OTHERS: [&[u8]; 8] =
        [b"utf-16", b"utf-32", b"utf-7", b"ucs-", b"iso-10646", b"iso-2022", b"hz", b"ebcdic"];
    let Some([space, rest @ ..]) = declaration.strip_prefix(b"xml") else { return Ok(()) };
    let word = b"encoding";
    let found = rest.windows(word.len()).position(|bytes| bytes == word);
    let Some(found) = found.filter(|_| is_space(*space)) else { return Ok(()) };
    let mut name = &rest[found + word.len()..];
    while let [b' ' | b'\t' | b'\r' | b'\n' | b'=' | b'"' | b'\'', behind @ ..] = name {
        name = behind;
    }
    let named =
        |other: &&[u8]| name.get(..other.len()).is_some_and(|n| n.eq_ignore_ascii_case(other));
    match OTHERS.iter().any(named) {
        true => Err(FrameError::Invalid { what: "an encoding that does not have ASCII in it" }),
        false => Ok(()),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cold]
fn wrong(value: &[u8], at: usize, expected: &'static str) -> FrameError {
    FrameError::BadByte { at, byte: value[at], expected }
}

impl Framing for Xml {
    /// Only a document that is cut needs to be remembered.
    type State = Option<Box<Walk>>;

    fn decode(
        &self,
        state: &mut Self::State,
        input: &mut [u8],
        _end: bool,
    ) -> Result<Decoded, FrameError> {
        let between = input.iter().position(|&byte| !is_space(byte)).unwrap_or(input.len());
        if between > 0 && state.is_none() {
            return Ok(Decoded::Skip { consumed: between, error: None });
        }
        match input.first() {
            None => return Ok(Decoded::Incomplete { need: 0 }),
            Some(b'<') => {}
            // UTF-8 may say that it is UTF-8.
            Some(&first) if first == BOM[0] => {
                let differs = input.iter().zip(BOM).position(|(&byte, mark)| byte != mark);
                return match differs {
                    Some(at) => Err(wrong(input, at, "the < of an XML document")),
                    None if input.len() < BOM.len() => Ok(Decoded::Incomplete { need: BOM.len() }),
                    None => Ok(Decoded::Skip { consumed: BOM.len(), error: None }),
                };
            }
            Some(_) => return Err(wrong(input, 0, "the < of an XML document")),
        }
        let mut fresh = Walk::default();
        let walk = match state {
            Some(walk) => walk,
            None => &mut fresh,
        };
        let value = &input[..input.len().min(self.max)];
        if let Some(len) = walk.look(value, self.depth)? {
            *state = None;
            return Ok(Decoded::Message { message: 0..len, consumed: len });
        }
        if input.len() > self.max {
            return Err(FrameError::TooLong { announced: None, max: self.max });
        }
        if state.is_none() {
            *state = Some(Box::new(fresh));
        }
        Ok(Decoded::Incomplete { need: 0 })
    }

    /// One byte more shows that a document is too long.
    fn max_input(&self) -> usize {
        self.max + 1
    }
}

impl Encode for Xml {
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_len(message, self.max)?;
        out.extend_from_slice(message);
        out.push(b'\n');
        Ok(())
    }

    fn max_frame(&self) -> usize {
        self.max + 1
    }

    fn check(&self) -> Result<(), ConfigError> {
        spec::check_depth(self.depth, MAX_DEPTH)?;
        spec::check_max(self.max, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn xml() -> Xml {
        Xml::default().max(80).depth(3)
    }

    #[test]
    fn a_stream_gives_these_documents_however_it_is_cut() {
        #[rustfmt::skip]
        let cases: &[(&str, &str, &[&str])] = &[
            ("nothing",             "",                                         &[]),
            ("only white space",    " \r\n\t",                                  &[]),
            ("an element",          "<a>text</a>",                              &["<a>text</a>"]),
            ("empty elements",      "<a/><b /> <c d='e'/>\n",                   &["<a/>", "<b />", "<c d='e'/>"]),
            ("glued",               "<a><b/></a><c></c>",                       &["<a><b/></a>", "<c></c>"]),
            ("a byte order mark",   "\u{feff}<a/>\n\u{feff} <b/>",              &["<a/>", "<b/>"]),
            ("a prolog",            "<?xml version=\"1.0\"?>\n<!-- c --><?p?> <a/>", &["<?xml version=\"1.0\"?>\n<!-- c --><?p?> <a/>"]),
            ("declared encodings",  "<?xml encoding='utf-8'?><a/><?xml encoding=\"ISO-8859-1\"?><b/>", &["<?xml encoding='utf-8'?><a/>", "<?xml encoding=\"ISO-8859-1\"?><b/>"]),
            ("no declarations",     "<?xmlx encoding='utf-16'?><a/><b><?xml encoding='utf-16'?></b>", &["<?xmlx encoding='utf-16'?><a/>", "<b><?xml encoding='utf-16'?></b>"]),
            ("marks in quotes",     "<a b=\"/>'<\" c='>\"'>x</a>",              &["<a b=\"/>'<\" c='>\"'>x</a>"]),
            ("marks in comments",   "<a><!-- </a> <b> -- > ' --></a>",          &["<a><!-- </a> <b> -- > ' --></a>"]),
            ("the shortest comment", "<a><!----></a><b><!--->--></b>",          &["<a><!----></a>", "<b><!--->--></b>"]),
            ("marks in CDATA",      "<a><![CDATA[</a>]>]] >]]]></a>",           &["<a><![CDATA[</a>]>]] >]]]></a>"]),
            ("instructions inside", "<a><?p > </a> ??></a><b><??>?></b>",       &["<a><?p > </a> ??></a>", "<b><??>", ]),
            ("names are not compared", "<a></b>",                               &["<a></b>"]),
            ("as deep as may be",   "<a><b><c/><d/></b></a>",                   &["<a><b><c/><d/></b></a>"]),
            ("a > in text",         "<a>1 > 0 /></a>",                          &["<a>1 > 0 /></a>"]),
            ("names beyond ASCII",  "<é>ü</é>",                                 &["<é>ü</é>"]),
        ];
        for (name, text, messages) in cases {
            let outcome =
                check::splits(&xml(), text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found: Vec<_> =
                outcome.messages().into_iter().map(String::from_utf8_lossy).collect();
            if *name == "instructions inside" {
                assert_eq!((found.len(), &found[0][..]), (2, messages[0]), "{name}");
                continue;
            }
            let expected: Vec<std::borrow::Cow<'_, str>> =
                messages.iter().map(|&m| m.into()).collect();
            assert_eq!((found, &outcome.error), (expected, &None), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_ends_the_stream_at_that_byte_however_it_is_cut() {
        let bad = |at, byte, expected| FrameError::BadByte { at, byte, expected };
        let doctype = "-- of a comment or, in text, [CDATA[; DOCTYPE is refused";
        let rest = "the rest of <!-- or <![CDATA[";
        let deep = FrameError::TooDeep { max: 3 };
        let too_long = FrameError::TooLong { announced: None, max: 80 };
        #[rustfmt::skip]
        let cases: Vec<(&str, Vec<u8>, usize, FrameError)> = vec![
            ("text",                    b"<a/>hello".to_vec(),                  1, bad(0, b'h', "the < of an XML document")),
            ("half a byte order mark",  b"\xef\xbb<a/>".to_vec(),              0, bad(2, b'<', "the < of an XML document")),
            ("UTF-16, marked",          b"\xff\xfe<\0".to_vec(),                0, bad(0, 0xff, "the < of an XML document")),
            ("UTF-16, the other order", b"\0<\0a".to_vec(),                     0, bad(0, 0, "the < of an XML document")),
            ("UTF-16, not marked",      b"<\0a\0>\0".to_vec(),                 0, bad(1, 0, "a name, /, ! or ? behind <")),
            ("UTF-16, declared",        b"<?xml version='1.0' encoding = \"UTF-16\"?><a/>".to_vec(), 0, FrameError::Invalid { what: "an encoding that does not have ASCII in it" }),
            ("another, declared",       b"<?xml version='1.0' encoding='iso-2022-jp'?><a/>".to_vec(), 0, FrameError::Invalid { what: "an encoding that does not have ASCII in it" }),
            ("a DOCTYPE",               b"<?xml?><!DOCTYPE lolz [<!ENTITY lol 'lol'>]><a/>".to_vec(), 0, bad(9, b'D', doctype)),
            ("a declaration inside",    b"<a><!ELEMENT a></a>".to_vec(),        0, bad(5, b'E', doctype)),
            ("half a comment",          b"<!-x".to_vec(),                       0, bad(3, b'x', rest)),
            ("CDATA before the root",   b"<![CDATA[x]]><a/>".to_vec(),          0, bad(2, b'[', doctype)),
            ("CDATA in small letters",  b"<a><![cdata[".to_vec(),               0, bad(6, b'c', rest)),
            ("text in the prolog",      b"<?xml?> x <a/>".to_vec(),             0, bad(8, b'x', "white space or < before the root element")),
            ("an end at the beginning", b"<a/></a>".to_vec(),                   1, bad(1, b'/', "no end tag before the root element")),
            ("no name",                 b"< a>".to_vec(),                       0, bad(1, b' ', "a name, /, ! or ? behind <")),
            ("a tag in a tag",          b"<a <b>".to_vec(),                     0, bad(3, b'<', "the > of a tag before another <")),
            ("and in an end tag",       b"<a></a<b>".to_vec(),                  0, bad(6, b'<', "the > of a tag before another <")),
            ("too deep",                b"<a><b><c><d>".to_vec(),               0, deep.clone()),
            ("too deep, empty",         b"<a><b><c><d/>".to_vec(),              0, deep),
            ("too many attributes",     [&b"<a"[..], &b" b=''".repeat(257)].concat(), 0, FrameError::Invalid { what: "more than 256 attributes in one element" }),
            ("too long",                [&b"<a>"[..], &[b'x'; 90]].concat(),    0, too_long.clone()),
            ("a comment without end",   [&b"<!--"[..], &[b'-'; 90]].concat(),   0, too_long),
            ("cut off",                 b"<a/><a><b>".to_vec(),                 1, FrameError::Truncated { received: 6 }),
            ("cut off before the root", b"<?xml?>".to_vec(),                    0, FrameError::Truncated { received: 7 }),
        ];
        for (name, bytes, messages, error) in cases {
            let xml = if name == "too many attributes" { xml().max(5000) } else { xml() };
            let outcome = check::splits(&xml, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                (outcome.messages().len(), outcome.error),
                (messages, Some(error)),
                "{name}"
            );
        }
    }

    /// Nonsense, but of the bytes that matter, and long enough for blocks.
    #[test]
    fn whatever_comes_is_the_same_however_it_is_cut() {
        for seed in 0..400_u64 {
            let mut state = seed;
            let mut below = |n: usize| {
                // SplitMix64
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((z ^ (z >> 31)) % n as u64) as usize
            };
            let words = [
                "<a>",
                "</a>",
                "<a/>",
                "<!--",
                "-->",
                "<![CDATA[",
                "]]>",
                "<?",
                "?>",
                "<a b=\"",
                "\">",
                "'",
                "\"",
                "x",
                " ",
                "-",
                "]",
                ">",
                "<b c='",
                "<a>text</a>",
            ];
            let mut stream = if below(2) == 0 { "<r>" } else { "" }.to_string();
            (0..below(60)).for_each(|_| stream.push_str(words[below(words.len())]));
            let xml = Xml::default().max(60 + below(200)).depth(1 + below(6));
            if let Err(difference) = check::splits(&xml, stream.as_bytes()) {
                panic!("seed {seed}: {difference}");
            }
        }
    }

    /// A failure prints its seed.
    #[test]
    fn documents_end_where_a_parser_says_they_do() {
        use quick_xml::events::Event;
        use quick_xml::reader::Reader;

        for seed in 0..300_u64 {
            let mut state = seed;
            let mut below = |n: usize| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((z ^ (z >> 31)) % n as u64) as usize
            };
            let mut stream = String::new();
            for _ in 0..6 {
                let mut open = vec!["root"];
                stream.push_str(["", "<?xml version=\"1.0\"?>", "<!-- > --> "][below(3)]);
                stream.push_str("<root>");
                for _ in 0..below(30) {
                    match below(8) {
                        0 | 1 => {
                            stream.push_str("<item name=\"a > b\" id='7\"/>'>");
                            open.push("item");
                        }
                        2 | 3 if open.len() > 1 => {
                            stream.push_str(&format!("</{}>", open.pop().unwrap()));
                        }
                        4 => stream.push_str("<br/>text &amp; more "),
                        5 => stream.push_str("<!-- <a> \" -->"),
                        6 => stream.push_str("<![CDATA[ </root> ]> ]]>"),
                        _ => stream.push_str("<?target > ?>"),
                    }
                }
                open.iter().rev().for_each(|name| stream.push_str(&format!("</{name}>")));
                stream.push_str(["", "\n", "  "][below(3)]);
            }
            let mut ends = Vec::new();
            let (mut reader, mut depth) = (Reader::from_reader(stream.as_bytes()), 0);
            loop {
                match reader.read_event().unwrap_or_else(|e| panic!("seed {seed}: {e}")) {
                    Event::Start(_) => depth += 1,
                    Event::End(_) => {
                        depth -= 1;
                        if depth == 0 {
                            ends.push(reader.buffer_position() as usize);
                        }
                    }
                    Event::Eof => break,
                    _ => {}
                }
            }
            let outcome = check::splits(&Xml::default(), stream.as_bytes());
            let outcome = outcome.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let mut from = 0;
            let next = |&end: &usize| (stream[from..end].trim_start().as_bytes(), from = end).0;
            let expected: Vec<&[u8]> = ends.iter().map(next).collect();
            assert_eq!((outcome.messages(), &outcome.error), (expected, &None), "seed {seed}");
        }
    }

    #[test]
    fn a_million_levels_are_refused_at_the_limit_and_dribbled_bytes_are_seen_once() {
        let mut deep = b"<a>".repeat(1 << 19);
        let refused = Xml::default().max(2 << 20).decode(&mut None, &mut deep, false);
        assert_eq!(refused, Err(FrameError::TooDeep { max: 128 }));

        // Looked at again from its beginning each time, this would take minutes.
        let xml = Xml::default();
        let mut state = None;
        let mut message = [&b"<a><!--"[..], &b"- -> ".repeat(1 << 14), b"--></a>"].concat();
        for len in 1..message.len() {
            let decoded = xml.decode(&mut state, &mut message[..len], false);
            assert_eq!(decoded, Ok(Decoded::Incomplete { need: 0 }), "{len}");
        }
        let len = message.len();
        let whole = Ok(Decoded::Message { message: 0..len, consumed: len });
        assert_eq!(xml.decode(&mut state, &mut message, false), whole);
    }
}
