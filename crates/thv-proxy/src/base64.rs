//! Base64 as headers have it: the standard alphabet, with or without padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What `text` stands for; none when it is not of this form.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text
        .strip_suffix(b"==")
        .or(text.strip_suffix(b"="))
        .unwrap_or(text);
    if unpadded.len() % 4 == 1 || (unpadded.len() != text.len() && !text.len().is_multiple_of(4)) {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for byte in unpadded {
        let value = ALPHABET.iter().position(|known| known == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

/// `bytes` in this form, padded.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let whole = group
            .iter()
            .fold(0_u32, |whole, byte| whole << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (whole >> (18 - 6 * place) & 63) as usize;
            out.push(if place <= group.len() {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_for_every_length() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..bytes.len() {
            assert_eq!(decode(encode(&bytes[..len]).as_bytes()).unwrap(), bytes[..len]);
        }
        assert_eq!(encode(b"ab"), "YWI=");
        assert_eq!(decode(b"Y2Fmw6k=").unwrap(), "café".as_bytes());
        assert_eq!(decode(b"YWI").unwrap(), b"ab");
        for bad in [&b"Y"[..], b"Y===", b"YW=I", b"Y W I=", b"YWI=="] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
