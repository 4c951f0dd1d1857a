//! Protocol Buffers, as far as ONNX files need them: reading and copying a message field by field.
//!
//! Encoding: Protocol Buffers documentation, "Encoding". Field numbers of ONNX stand where they
//! are used.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

/// Copies a message field by field. `change` sees each field with a length before it, and answers
/// whether it has dealt with it. `None` when the bytes are no message.
pub(super) fn rewritten(
    message: &[u8],
    mut change: impl FnMut(u64, &[u8], &mut Vec<u8>) -> Option<bool>,
) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(message.len());
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let (field, content) = next(message, &mut at)?;
        if let Content::Bytes(content) = content
            && change(field, content, &mut output)?
        {
            continue;
        }
        output.extend_from_slice(message.get(start..at)?);
    }
    Some(output)
}

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A text, a message, or many numbers.
    Bytes(&'a [u8]),
    /// A number of variable length.
    Number(u64),
    /// A number of fixed length.
    Fixed,
}

/// The field that begins at `at`, which is moved behind it.
pub(super) fn next<'a>(message: &'a [u8], at: &mut usize) -> Option<(u64, Content<'a>)> {
    let tag = number(message, at)?;
    let content = match tag & 7 {
        0 => Content::Number(number(message, at)?),
        1 => {
            *at = at.checked_add(8)?;
            Content::Fixed
        }
        2 => {
            let length = usize::try_from(number(message, at)?).ok()?;
            let content = message.get(*at..at.checked_add(length)?)?;
            *at += length;
            Content::Bytes(content)
        }
        5 => {
            *at = at.checked_add(4)?;
            Content::Fixed
        }
        _ => return None,
    };
    (*at <= message.len()).then_some((tag >> 3, content))
}

/// All fields of a message; `None` when the bytes are no message.
pub(super) fn fields(message: &[u8]) -> Option<Vec<(u64, Content<'_>)>> {
    let (mut at, mut fields) = (0, Vec::new());
    while at < message.len() {
        fields.push(next(message, &mut at)?);
    }
    Some(fields)
}

/// The content of the first field with this number that has a length before it.
pub(super) fn first(message: &[u8], wanted: u64) -> Option<&[u8]> {
    fields(message)?.into_iter().find_map(|(field, content)| match content {
        Content::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

/// A number of seven bits a byte, the lowest first.
pub(super) fn number(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Writes a field with a length before it.
pub(super) fn put(output: &mut Vec<u8>, field: u64, content: &[u8]) {
    put_number(output, field << 3 | 2);
    put_number(output, content.len() as u64);
    output.extend_from_slice(content);
}

/// Writes a number as [`number`] reads it.
pub(super) fn put_number(output: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        output.push(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    output.push(u8::try_from(number).unwrap_or_default());
}

/// A field with a length before it, alone.
#[cfg(test)]
pub(super) fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    put(&mut output, number, content);
    output
}

/// A message in a file, read from its beginning to its end: a network may be gigabytes, so what
/// nobody wants to see is jumped over.
pub(super) struct Stream<R = File> {
    reader: BufReader<R>,
    at: u64,
}

/// What stands before the content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Field number and kind of content, as they were written.
    pub(super) tag: u64,
    /// Bytes of the content; `None` for a number of variable length, which is read already.
    pub(super) length: Option<u64>,
    /// That number.
    pub(super) number: u64,
}

impl Head {
    pub(super) fn field(self) -> u64 {
        self.tag >> 3
    }

    /// Whether the content is a text, a message, or many numbers.
    pub(super) fn is_bytes(self) -> bool {
        self.tag & 7 == 2
    }
}

impl Stream {
    /// Opens a file and says where it ends.
    pub(super) fn open(path: &Path) -> io::Result<(Self, u64)> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        Ok((Self::of(file), end))
    }

    pub(super) fn jump(&mut self, length: u64) -> io::Result<()> {
        let by = i64::try_from(length).map_err(|_large| broken())?;
        self.reader.seek_relative(by)?;
        self.at += length;
        Ok(())
    }
}

impl<R: Read> Stream<R> {
    /// Reads what comes, from its beginning.
    pub(super) fn of(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, reader), at: 0 }
    }

    /// Whether nothing more comes.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.reader.fill_buf()?.is_empty())
    }

    /// Reads over bytes of what can't be sought in.
    pub(super) fn read_over(&mut self, length: u64) -> io::Result<()> {
        let read = io::copy(&mut Read::by_ref(&mut self.reader).take(length), &mut io::sink())?;
        self.at += read;
        if read == length { Ok(()) } else { Err(broken()) }
    }

    /// Where the next byte stands in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next field of a message that ends at `end`; `None` at its end. The content, if it has a
    /// length, is to be read or jumped over.
    pub(super) fn next(&mut self, end: u64) -> io::Result<Option<Head>> {
        if self.at >= end {
            return if self.at == end { Ok(None) } else { Err(broken()) };
        }
        let tag = self.number()?;
        let (length, number) = match tag & 7 {
            0 => (None, self.number()?),
            1 => (Some(8), 0),
            2 => (Some(self.number()?), 0),
            5 => (Some(4), 0),
            _ => return Err(broken()),
        };
        let behind = self.at.checked_add(length.unwrap_or(0));
        if behind.is_some_and(|behind| behind <= end) {
            Ok(Some(Head { tag, length, number }))
        } else {
            Err(broken())
        }
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 10];
        for place in 0..bytes.len() {
            self.reader.read_exact(&mut bytes[place..=place]).map_err(|_cut| broken())?;
            self.at += 1;
            if bytes[place] & 0x80 == 0 {
                return number(&bytes, &mut 0).ok_or_else(broken);
            }
        }
        Err(broken())
    }

    /// The next `length` bytes, which may be as many as the file has: the caller knows what is too
    /// much.
    pub(super) fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_large| broken())?];
        self.reader.read_exact(&mut bytes)?;
        self.at += length;
        Ok(bytes)
    }
}

/// The error for bytes that are no message.
pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no ONNX file, or only a part of one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_back() {
        let mut message = vec![0x08, 0xAC, 0x02];
        put(&mut message, 300, &[7; 200]);
        message.extend([0x15, 1, 2, 3, 4]);
        let read = fields(&message).expect("a message");
        let expected =
            [(1, Content::Number(300)), (300, Content::Bytes(&[7; 200])), (2, Content::Fixed)];
        assert_eq!(read, expected);
        assert_eq!(rewritten(&message, |_, _, _| Some(false)), Some(message.clone()));
        for cut in [2, 5, message.len() - 1] {
            assert_eq!(fields(&message[..cut]), None, "cut at {cut}");
        }
    }
}
