//! The wire format of Protocol Buffers.

/// Bytes that are not a valid message, in the words of the real decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("proto: {0}")]
pub(in crate::kube) struct Malformed(pub(super) &'static str);

/// The value of a field on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'b [u8]),
}

impl<'b> Wire<'b> {
    pub(super) fn bytes(self) -> Result<&'b [u8], Malformed> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            Wire::Varint(_) | Wire::Fixed64(_) | Wire::Fixed32(_) => Err(Malformed("wrong wireType")),
        }
    }

    pub(super) fn text(self) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("invalid UTF-8"))
    }

    pub(super) fn number(self) -> Result<u64, Malformed> {
        match self {
            Wire::Varint(number) => Ok(number),
            Wire::Bytes(_) | Wire::Fixed64(_) | Wire::Fixed32(_) => Err(Malformed("wrong wireType")),
        }
    }
}

/// Reads the fields of a message in order.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    /// The number and value of the next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'b>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or(Malformed("illegal tag"))?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed("negative length"))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups have never been used by Kubernetes.
            _ => return Err(Malformed("illegal wireType")),
        };
        Ok(Some((number, value)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("integer overflow"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Malformed("unexpected EOF"))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("unexpected EOF"))?;
        self.0 = rest;
        Ok(taken)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, number);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_fixed64(out: &mut Vec<u8>, field: u32, bits: u64) {
    put_varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_rejects_the_rest() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1, 300);
        put_bytes(&mut bytes, 20, b"web");
        put_fixed64(&mut bytes, 3, 7);
        put_number(&mut bytes, 4, u64::MAX);
        let mut reader = Reader(&bytes);
        let mut read = Vec::new();
        while let Some(field) = reader.next().unwrap() {
            read.push(field);
        }
        let all = [
            (1, Wire::Varint(300)),
            (20, Wire::Bytes(b"web")),
            (3, Wire::Fixed64(7)),
            (4, Wire::Varint(u64::MAX)),
        ];
        assert_eq!(read, all);
        for broken in [
            &[8][..],
            &[8, 0x80],
            &[10, 5, 1],
            &[11],
            &[0, 1],
            &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ] {
            assert!(Reader(broken).next().is_err(), "{broken:?}");
        }
    }
}
