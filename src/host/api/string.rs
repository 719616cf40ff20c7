//! The server's strings: those that it lends us, and our own.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::{rm, RawStr};

/// A string of the server, which lives and stays as it is during `'c`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(in crate::host) struct Str<'c>(NonNull<RawStr>, PhantomData<&'c RawStr>);

impl<'c> Str<'c> {
    /// Borrows a string that the server passed.
    ///
    /// # Safety
    ///
    /// It is a string of the server, not null, and nobody frees or changes it during `'c`.
    pub(in crate::host) const unsafe fn new(string: *mut RawStr) -> Self {
        // SAFETY: by the word of the caller.
        Self(unsafe { NonNull::new_unchecked(string) }, PhantomData)
    }

    /// The same for one that may be missing: null.
    ///
    /// # Safety
    ///
    /// If it is not null, that of [`new`](Self::new).
    pub(in crate::host) unsafe fn if_any(string: *const RawStr) -> Option<Self> {
        NonNull::new(string.cast_mut()).map(|string| Self(string, PhantomData))
    }

    /// Borrows the words of a command.
    ///
    /// # Safety
    ///
    /// At `argv` lie `argc` pointers to strings of the server, none of them null, and nobody frees or changes any of this
    /// during `'c`.
    pub(in crate::host) unsafe fn words(argv: *mut *mut RawStr, argc: c_int) -> &'c [Self] {
        // SAFETY: by the word of the caller, and a `Str` is nothing but the pointer.
        unsafe { std::slice::from_raw_parts(argv.cast(), usize::try_from(argc).unwrap_or(0)) }
    }

    #[inline]
    pub(in crate::host) fn as_bytes(self) -> &'c [u8] {
        let mut len = 0;
        let start = rm!(RedisModule_StringPtrLen(self.as_ptr(), &raw mut len));
        // SAFETY: the server gave the start and the length of the string, which stays as it is.
        unsafe { std::slice::from_raw_parts(start.cast(), len) }
    }

    /// For [`rm!`].
    #[inline]
    pub(in crate::host) const fn as_ptr(self) -> *mut RawStr {
        self.0.as_ptr()
    }

    /// Several, for [`rm!`]. The server only reads them.
    #[inline]
    pub(in crate::host) const fn argv(words: &[Self]) -> *mut *mut RawStr {
        words.as_ptr().cast_mut().cast()
    }
}

/// A string of ours, freed at the end.
pub(in crate::host) struct OwnString(NonNull<RawStr>);

impl OwnString {
    pub(in crate::host) fn new(bytes: &[u8]) -> Self {
        Self::made(rm!(RedisModule_CreateString(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len())))
    }

    /// A number as the server writes it.
    pub(in crate::host) fn number(n: i64) -> Self {
        Self::made(rm!(RedisModule_CreateStringFromLongLong(ptr::null_mut(), n)))
    }

    const fn made(string: *mut RawStr) -> Self {
        // SAFETY: the server makes a string, or ends for want of memory.
        Self(unsafe { NonNull::new_unchecked(string) })
    }

    /// Takes over a string that the server made for us. Returns `None` for a null pointer.
    ///
    /// # Safety
    ///
    /// If it is not null, it is a string of the server that is ours to free.
    pub(in crate::host) unsafe fn adopt(string: *mut RawStr) -> Option<Self> {
        NonNull::new(string).map(Self)
    }

    pub(in crate::host) const fn as_str(&self) -> Str<'_> {
        Str(self.0, PhantomData)
    }
}

impl Drop for OwnString {
    fn drop(&mut self) {
        rm!(RedisModule_FreeString(ptr::null_mut(), self.0.as_ptr()));
    }
}
