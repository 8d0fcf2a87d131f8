//! Owns how a key or a value is shown to people who don't know what it is: on one line, printable, and not too long.

/// Enough to recognise a record by, with the offset beside it to find it.
const BYTES_MAX: usize = 120;

/// Text in quotes, other bytes in hexadecimal, and how many there are if not all are shown.
pub(super) fn excerpt(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let shown = &bytes[..bytes.len().min(BYTES_MAX)];
    let rest = if shown.len() < bytes.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    match text(shown, bytes.len() > shown.len()) {
        Some(text) => format!("{text:?}{rest}"),
        None => format!("0x{}{rest}", shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// A cut may have divided the last character.
fn text(bytes: &[u8], cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if cut && error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    (!text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_is_shown_as_text_and_nothing_is_long() {
        let check = |bytes: Option<&[u8]>, expected: &str| assert_eq!(excerpt(bytes), expected);
        check(None, "null");
        check(Some(b""), "\"\"");
        check(Some(b"a \"b\"\n"), r#""a \"b\"\n""#);
        check(Some(&7_u64.to_be_bytes()), "0x0000000000000007");
        check(Some(b"\xff"), "0xff");
        check(Some("ü".repeat(61).as_bytes()), &format!("\"{}\"… (122 bytes)", "ü".repeat(60)));
        check(Some(format!("a{}", "ü".repeat(61)).as_bytes()), &format!("\"a{}\"… (123 bytes)", "ü".repeat(59)));
        check(Some(&[0; 1000]), &format!("0x{}… (1000 bytes)", "00".repeat(120)));
    }
}
