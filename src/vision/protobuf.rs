//! Protocol Buffers, as far as ONNX files need them: reading and copying a message field by field.
//!
//! Encoding: Protocol Buffers documentation, "Encoding". Field numbers of ONNX stand where they
//! are used.

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

/// A number of seven bits a byte, the lowest first.
fn number(message: &[u8], at: &mut usize) -> Option<u64> {
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
    for mut number in [field << 3 | 2, content.len() as u64] {
        while number >= 0x80 {
            output.push(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        output.push(u8::try_from(number).unwrap_or_default());
    }
    output.extend_from_slice(content);
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
