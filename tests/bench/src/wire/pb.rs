//! Protobuf's wire format, without messages.
//!
//! Reading stops at the first byte that makes no sense; whoever reads compares what was read with what must be there.

/// One field's value; numbers of fixed length do not occur in what is read here and are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => self.fixed(8)?,
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => self.fixed(4)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn fixed(&mut self, length: usize) -> Option<Value<'a>> {
        self.0 = self.0.get(length..)?;
        Some(Value::Fixed)
    }

    /// The first field of this number that holds bytes.
    pub(crate) fn bytes(self, number: u64) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(field, value)| match value {
            Value::Bytes(bytes) if field == number => Some(bytes),
            Value::Bytes(_) | Value::Number(_) | Value::Fixed => None,
        })
    }

    /// The first field of this number that holds a number, or protobuf's default.
    pub(crate) fn number(self, number: u64) -> u64 {
        let mut found = self.into_iter().filter_map(|(field, value)| match value {
            Value::Number(value) if field == number => Some(value),
            Value::Bytes(_) | Value::Number(_) | Value::Fixed => None,
        });
        found.next().unwrap_or_default()
    }

    /// The first field of this number, as text.
    pub(crate) fn text(self, number: u64) -> &'a str {
        self.bytes(number)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_and_nonsense_ends_the_reading() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1, 300);
        put_bytes(&mut bytes, 20, b"text");
        let whole = Fields(&bytes);
        assert_eq!((whole.number(1), whole.text(20), whole.bytes(3)), (300, "text", None));
        for cut in 0..bytes.len() {
            assert!(Fields(bytes.get(..cut).unwrap()).count() < 2);
        }
        assert_eq!(Fields(&[0xff; 11]).next(), None);
    }
}
