//! The bytes of a stored value, put together and taken apart, all numbers little-endian. Reading trusts nothing: what is
//! not there ends it, and no memory is taken for what a length only promises.

/// Bytes that somebody wrote, as far as they have not been read.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of these bytes.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The text that [`put_text`] wrote. Returns `None` if it is longer than `max`, or cut off.
    pub(crate) fn text(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        (len <= max).then(|| self.take(len))?
    }

    /// Whether nothing is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a text behind its length, which fits 16 bits for every text that this module keeps.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text);
}
