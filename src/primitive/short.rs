//! Bytes most of which are few: those that fit lie in place, and take no memory of their own.

use super::footprint::allocated;

/// Some bytes that do not change; up to `N` of them lie in place.
#[derive(Clone)]
pub(crate) enum Short<const N: usize> {
    /// The first so many of these.
    InPlace(u8, [u8; N]),
    Apart(Box<[u8]>),
}

impl<const N: usize> Short<N> {
    /// A copy of these bytes.
    #[inline]
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut room = [0; N];
        match (room.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(bytes);
                Self::InPlace(len, room)
            }
            _ => Self::Apart(bytes.into()),
        }
    }

    /// The bytes of the server's memory that a value of this length takes, beside those in place.
    pub(crate) const fn heap_bytes(len: usize) -> usize {
        if len > N {
            allocated(len)
        } else {
            0
        }
    }
}

impl<const N: usize> std::ops::Deref for Short<N> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(len, room) => room.get(..usize::from(*len)).unwrap_or(room),
            Self::Apart(bytes) => bytes,
        }
    }
}

impl<const N: usize> std::fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize> PartialEq for Short<N> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> std::hash::Hash for Short<N> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_bytes_that_it_was_made_of() {
        for len in 0..=300 {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let short = Short::<22>::new(&bytes);
            assert_eq!(&*short, bytes);
            assert_eq!(matches!(short, Short::Apart(_)), Short::<22>::heap_bytes(len) > 0, "{len}");
        }
    }

    #[test]
    fn what_lies_apart_equals_what_lies_in_place() {
        let (apart, in_place) = (Short::<8>::Apart((*b"abc").into()), Short::<8>::new(b"abc"));
        assert!(matches!(in_place, Short::InPlace(3, _)));
        assert_eq!(apart, in_place);
        assert!(Short::<8>::new(b"abd") > apart);
    }

    #[test]
    fn takes_no_more_than_its_room_and_two_bytes() {
        assert_eq!((size_of::<Short<22>>(), size_of::<Short<38>>()), (24, 40));
    }
}
