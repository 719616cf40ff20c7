//! The words of the [plain way](crate::primitive::plain): `LOCK.ACQUIRE key owner PX milliseconds` and
//! `LOCK.RELEASE key owner [FENCE n]`, in just this order. All else is for the general readers of words, which read these too.

use super::acquire::Acquire;
use super::args::{parse_fence, parse_i64};
use super::policy::Policy;
use crate::limits::KEY_BYTES_MAX;
use crate::primitive::bounds::Span;
use crate::primitive::{Fence, Lease, Owner, Permits};

/// The lease that is asked for. Returns `None` if these are not the words of a plain request.
pub(crate) fn acquire(
    key: &[u8],
    owner: &[u8],
    option: &[u8],
    ms: &[u8],
    max_lease_ms: i64,
) -> Option<Lease> {
    let is_plain = option.eq_ignore_ascii_case(b"PX") && names(key, owner) && owner != b"*";
    let ms = parse_i64(ms).filter(|ms| is_plain && (1..=max_lease_ms).contains(ms))?;
    Some(Lease::ms(ms.unsigned_abs()))
}

/// Whether these can be the names of a lock and of an owner.
pub(crate) fn names(key: &[u8], owner: &[u8]) -> bool {
    key.len() <= KEY_BYTES_MAX && Owner::is_valid(owner)
}

/// The fence of this option. Returns `None` if it is another option, or no fence.
pub(crate) fn fence(option: &[u8], n: &[u8]) -> Option<Fence> {
    parse_fence(n).filter(|_| option.eq_ignore_ascii_case(b"FENCE"))
}

impl Acquire<'_> {
    /// The lease, if that is all that this request wants of a free lock. How long it would wait for one that is not makes no
    /// difference.
    pub(crate) fn plain_lease(&self, policy: &Policy) -> Option<Lease> {
        let terms = &self.terms;
        let is_plain = terms.permits == Permits::EXCLUSIVE
            && terms.fence.is_none()
            && terms.note.is_none()
            && terms.entry.is_empty()
            && terms.span == Span::default()
            && !terms.with_info;
        is_plain.then(|| terms.lease(policy))
    }
}
