//! Numbers in header fields: octal text, or GNU's base 256. The tar crate's own reading drops the
//! high bytes of the latter and knows no negative ones, so it is done here.

/// Why a field is no number.
pub(super) enum Bad {
    NotANumber,
    OutOfRange,
}

/// A field's value, and whether all readers agree on it.
pub(super) fn field(bytes: &[u8]) -> Result<(i64, bool), Bad> {
    match bytes.first() {
        Some(0x80 | 0xff) => base_256(bytes).map(|value| (value, true)),
        _ => octal(bytes),
    }
}

/// Two's complement over the whole field; the first byte is the sign's.
fn base_256(bytes: &[u8]) -> Result<i64, Bad> {
    let negative = bytes[0] == 0xff;
    let mut value: i128 = if negative { -1 } else { 0 };
    for &byte in &bytes[1..] {
        // No field is longer than twelve bytes, so this cannot overflow.
        value = value << 8 | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| Bad::OutOfRange)
}

fn octal(bytes: &[u8]) -> Result<(i64, bool), Bad> {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let digits = text.trim_ascii();
    let mut value: i64 = 0;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(Bad::NotANumber);
        }
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or(Bad::OutOfRange)?;
    }
    // GNU tar wants a digit unless all is NUL, and skips one leading NUL; bsdtar wants nothing after the end.
    let blank = digits.is_empty() && bytes.iter().any(|&b| b != 0);
    let junk = bytes[text.len()..].iter().any(|&b| b != 0 && b != b' ');
    Ok((value, !blank && !junk))
}

/// A decimal number of a PAX record.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&n| n <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> Option<i64> {
        field(bytes).ok().map(|(value, _)| value)
    }

    #[test]
    fn octal_is_read_with_the_padding_that_tars_write() {
        assert_eq!(value(b"0000644\0"), Some(0o644));
        assert_eq!(value(b"   644 \0"), Some(0o644));
        assert_eq!(value(b"77777777777\0"), Some(0o77777777777));
        assert_eq!(value(b"777777777777"), Some(0o777777777777));
        assert_eq!(value(b"\0\0\0\0"), Some(0));
        for bad in [&b"00000009"[..], b"zz", b"-5", b"+5", b"0 7", b"0x10"] {
            assert_eq!(value(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn base_256_keeps_its_sign_and_does_not_wrap() {
        assert_eq!(value(b"\x80\0\0\0\0\0\0\x05"), Some(5));
        assert_eq!(value(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(value(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX));
        assert_eq!(value(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None);
        assert_eq!(value(b"\x80\x01\0\0\0\0\0\0\0\0\0\0"), None);
        assert_eq!(value(b"\xff\0\0\0\0\0\0\0\0\0\0\0"), None);
        assert_eq!(value(b"\xc0\0\0\0\0\0\0\x05"), None);
    }

    #[test]
    fn fields_that_readers_differ_on_are_told_apart() {
        let agreed = |bytes: &[u8]| field(bytes).is_ok_and(|(_, agreed)| agreed);
        assert!(agreed(b"0000005\0") && agreed(b"\0\0\0\0") && agreed(b"0000005 \0"));
        assert!(!agreed(b"        ") && !agreed(b"\x000000005\0") && !agreed(b"5\0xyz"));
    }

    #[test]
    fn decimals_have_no_sign() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [&b""[..], b"-1", b"+1", b"1.0", b" 1", b"9223372036854775808", b"99999999999999999999"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }
}
