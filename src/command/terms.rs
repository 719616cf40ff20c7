//! How somebody wants a lock: the options that all commands share which take one.

use super::args::Args;
use super::policy::{Policy, Wait};
use super::spec::Arg;
use super::token::Token;
use crate::error::LockError;
use crate::limits::{HOLDS_MAX, LEASE_MS_MAX, PERMITS_MAX};
use crate::primitive::bounds::Span;
use crate::primitive::hold::Extra;
use crate::primitive::permits::ALL;
use crate::primitive::reentry::ReentryIds;
use crate::primitive::waiter::AcquireRequest;
use crate::primitive::{Fence, Lease, Owner, Permits, Step};

/// For how long.
pub(crate) const LEASE: Arg = Arg::one_of(
    "lease",
    &[
        Arg::int("milliseconds").after(Token::Px),
        Arg::int("seconds").after(Token::Ex),
        Arg::word("no-expiry", Token::NoExpire),
    ],
)
.optional();

/// For how long to wait, on the connection.
pub(crate) const BLOCK: Arg = Arg::int("wait-milliseconds").after(Token::Block).optional();

/// For how long to keep the place in line while no connection waits for it, and where to publish that its turn has come.
pub(crate) const QUEUE: Arg = Arg::block(
    "ticket",
    &[
        Arg::int("ticket-milliseconds").after(Token::Queue),
        Arg::string("channel").after(Token::Notify).optional(),
    ],
)
.optional();

const SHARED: Arg = Arg::word("shared", Token::Shared);
const LIMIT: Arg = Arg::int("limit").after(Token::Limit);
const PERMITS: Arg = Arg::int("permits").after(Token::Permits).optional();

/// With whom.
pub(crate) const MODE: Arg =
    Arg::one_of("mode", &[SHARED, Arg::block("semaphore", &[LIMIT, PERMITS])]).optional();

/// The same where one lock is asked for, whose limit can be taken as it is.
pub(crate) const MODE_OR_ADOPTED: Arg = Arg::one_of(
    "mode",
    &[SHARED, Arg::block("semaphore", &[LIMIT, Arg::word("adopt", Token::Adopt).optional(), PERMITS])],
)
.optional();

/// How long at most, how long at least, and with which connection.
pub(crate) const BOUNDS: [Arg; 3] = [
    TIED,
    Arg::int("maxhold-milliseconds").after(Token::MaxHold).optional(),
    Arg::int("minhold-milliseconds").after(Token::MinHold).optional(),
];

pub(crate) const TIED: Arg = Arg::int("grace-milliseconds").after(Token::Tied).optional();

pub(crate) const NX: Arg = Arg::word("not-held", Token::Nx).optional();
pub(crate) const CANCEL: Arg = Arg::word("cancel", Token::Cancel).optional();
pub(crate) const FENCE: Arg = Arg::int("fence").after(Token::Fence).optional();
pub(crate) const NOTE: Arg = Arg::string("note").after(Token::Note).optional();
pub(crate) const WITHINFO: Arg = Arg::word("with-info", Token::WithInfo).optional();
pub(crate) const REENTRANT: Arg = Arg::string("id").after(Token::Reentrant).optional();

/// The options of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms<'a> {
    /// The permits that the request wants.
    pub permits: Permits,
    /// Whether the limit that the semaphore has counts, and that of the request only where it has none.
    pub adopts: bool,
    /// Whether an owner that holds the lock already is told no.
    pub nx: bool,
    /// `None` for the default.
    pub lease: Option<Lease>,
    /// `None` for a try.
    pub wait: Option<Wait>,
    /// The channel that is told when a ticket has its turn.
    pub notify: Option<&'a [u8]>,
    pub fence: Option<Fence>,
    pub note: Option<&'a [u8]>,
    /// The id to enter under; empty without REENTRANT.
    pub entry: &'a [u8],
    /// The bounds of the hold beside its lease. A tie is to nobody until the connection is known.
    pub span: Span,
    pub with_info: bool,
}

impl<'a> Terms<'a> {
    /// Reads all words that are left.
    pub(crate) fn parse(args: &mut Args<'a>, policy: &Policy) -> Result<Self, LockError> {
        let (mut lease, mut mode, mut wait) = (None, ModeWords::default(), WaitWords::default());
        let (mut fence, mut note, mut entry) = (None, None, &b""[..]);
        let (mut longest, mut shortest, mut tie) = (Lease::NEVER, Lease::NONE, None);
        let (mut adopts, mut nx, mut with_info) = (false, false, false);
        while let Some(option) = args.next_option()? {
            match option {
                Token::Adopt => adopts = true,
                Token::Nx => nx = true,
                Token::Fence => fence = Some(args.fence()?),
                Token::Reentrant => entry = args.entry()?,
                Token::Tied => tie = Some(policy.tie(args)?),
                Token::MaxHold => {
                    longest = Lease::ms(args.number("MAXHOLD", 1, i64::from(LEASE_MS_MAX))?.unsigned_abs());
                }
                Token::MinHold => shortest = policy.lease_in_ms("MINHOLD", args)?,
                Token::Note => note = Some(args.note()?),
                Token::WithInfo => with_info = true,
                Token::Px | Token::Ex | Token::NoExpire => lease = Some(policy.lease(option, args)?),
                Token::Shared | Token::Limit | Token::Permits => mode.read(option, args)?,
                other => wait.read(other, args, policy)?,
            }
        }
        let permits = mode.finish()?;
        if adopts && permits.limit == ALL {
            return Err(LockError::AdoptWithoutLimit);
        }
        let span = Span { longest, shortest, tie };
        let (wait, notify) = wait.finish()?;
        Ok(Self { permits, adopts, nx, lease, wait, notify, fence, note, entry, span, with_info })
    }

    /// The owner who asks. Returns `None` if the server shall make a name up (`*`).
    pub(crate) fn owner(&self, word: &'a [u8]) -> Result<Option<&'a [u8]>, LockError> {
        if word != b"*" {
            Ok(Some(word))
        } else if self.wait.is_some_and(|wait| wait.keep_ms.is_some()) {
            Err(LockError::TicketWithoutOwner)
        } else {
            Ok(None)
        }
    }

    /// Takes over the limit that the semaphore has now, if the request adopts it: that of the holds, or of whoever comes
    /// first in line.
    pub(crate) fn adopt(&mut self, step: &mut Step) -> Result<(), LockError> {
        if !self.adopts {
            return Ok(());
        }
        step.expire_and_grant();
        let held = step.lock.holds().first().map(|hold| hold.permits.limit);
        let first =
            || step.manager.waiters.front(step.db, step.key).map(|(_, first)| first.request.permits.limit);
        if let Some(limit) = held.or_else(first).filter(|limit| *limit != ALL) {
            let error = LockError::Number { what: "PERMITS", min: 1, max: i64::from(limit) };
            self.permits = Permits::new(limit, self.permits.count).ok_or(error)?;
        }
        Ok(())
    }

    /// How long the hold shall last.
    pub(crate) fn lease(&self, policy: &Policy) -> Lease {
        self.lease.unwrap_or(Lease::ms(policy.default_lease_ms.unsigned_abs()))
    }

    /// The request of `owner` for this many locks.
    pub(crate) fn ask(
        &self,
        owner: &[u8],
        keys: usize,
        policy: &Policy,
    ) -> Result<AcquireRequest, LockError> {
        let note = self.note.unwrap_or_default();
        let is_plain = note.is_empty() && self.entry.is_empty() && keys == 1;
        let extra = || {
            Extra {
                note: note.into(),
                keys: keys as u32,
                entries: ReentryIds::of(self.entry),
                ..Extra::default()
            }
            .boxed()
        };
        Ok(AcquireRequest {
            owner: Owner::new(owner).ok_or_else(|| LockError::OwnerLength)?,
            permits: self.permits,
            lease: self.lease(policy),
            extra: if is_plain { None } else { extra() },
            span: (self.span != Span::default()).then(|| Box::new(self.span)),
        })
    }

    /// The request of a ticket of `owner`. Only the claim ties a hold to a connection.
    pub(crate) fn ticket(
        &self,
        owner: &[u8],
        keys: usize,
        policy: &Policy,
    ) -> Result<AcquireRequest, LockError> {
        Self { span: Span { tie: None, ..self.span }, ..*self }.ask(owner, keys, policy)
    }
}

/// BLOCK, QUEUE and NOTIFY, as far as they have been read.
#[derive(Default)]
pub(crate) struct WaitWords<'a> {
    block_ms: Option<u64>,
    keep_ms: Option<u64>,
    notify: Option<&'a [u8]>,
}

impl<'a> WaitWords<'a> {
    /// Reads the value of `option`, which is one of the three.
    pub(crate) fn read(
        &mut self,
        option: Token,
        args: &mut Args<'a>,
        policy: &Policy,
    ) -> Result<(), LockError> {
        match option {
            Token::Block => self.block_ms = Some(policy.block_ms(args)?),
            Token::Queue => self.keep_ms = Some(policy.keep_ms(args)?),
            Token::Notify => self.notify = Some(args.channel()?),
            other => return Err(Args::unread(other)),
        }
        Ok(())
    }

    /// How to wait, if at all, and the channel of a ticket.
    pub(crate) fn finish(self) -> Result<(Option<Wait>, Option<&'a [u8]>), LockError> {
        let Self { block_ms, keep_ms, notify } = self;
        if notify.is_some() && keep_ms.is_none() {
            return Err(LockError::NotifyWithoutTicket);
        }
        let waits = block_ms.is_some() || keep_ms.is_some();
        Ok((waits.then_some(Wait { block_ms, keep_ms }), notify))
    }
}

/// SHARED, LIMIT and PERMITS, as far as they have been read.
#[derive(Default)]
pub(crate) struct ModeWords {
    limit: Option<u32>,
    count: Option<u32>,
}

impl ModeWords {
    /// Reads the value of `option`, which is one of the three.
    #[inline]
    pub(crate) fn read(&mut self, option: Token, args: &mut Args) -> Result<(), LockError> {
        match option {
            Token::Shared => self.limit = Some(ALL),
            Token::Limit => self.limit = Some(args.count("LIMIT", PERMITS_MAX)?),
            Token::Permits => self.count = Some(args.count("PERMITS", PERMITS_MAX)?),
            other => return Err(Args::unread(other)),
        }
        Ok(())
    }

    /// The permits that they ask for; all of the lock if there were none.
    pub(crate) fn finish(self) -> Result<Permits, LockError> {
        permits(self.limit, self.count)
    }
}

fn permits(limit: Option<u32>, count: Option<u32>) -> Result<Permits, LockError> {
    match (limit, count) {
        (None, None) => Ok(Permits::EXCLUSIVE),
        (None | Some(ALL), Some(_)) => Err(LockError::PermitsWithoutLimit),
        // A request that names no permits counts holders. With permits of many sizes nobody can say here how many there
        // will be.
        (Some(limit), None) if limit != ALL && limit > HOLDS_MAX => Err(LockError::TooManyHolders { limit }),
        (Some(limit), count) => {
            let max = i64::from(limit);
            Permits::new(limit, count.unwrap_or(1)).ok_or(LockError::Number { what: "PERMITS", min: 1, max })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Moment;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Terms<'a>, LockError> {
        Terms::parse(&mut Args::new(&super::super::acquire::SPEC, words), &Policy::default())
    }

    #[test]
    fn options_in_any_order_and_case() {
        let one = parse(&[b"px", b"5", b"Block", b"0", b"NOTE", b"", b"withinfo", b"fence", b"9"]).unwrap();
        let other = parse(&[b"FENCE", b"9", b"WITHINFO", b"NOTE", b"", b"BLOCK", b"0", b"PX", b"5"]).unwrap();
        assert_eq!(one, other);
        assert_eq!((one.lease, one.wait), (Some(Lease::ms(5)), Some(Wait::block(0))));
    }

    #[test]
    fn seconds_are_milliseconds_and_cannot_wrap() {
        assert_eq!(parse(&[b"EX", b"2"]).unwrap().lease, Some(Lease::ms(2000)));
        for n in [&b"0"[..], b"-1", b"604801", b"9223372036854775807", b"9223372036854775808"] {
            let error = LockError::Number { what: "EX", min: 1, max: 604_800 };
            assert_eq!(parse(&[b"EX", n]), Err(error));
        }
    }

    #[test]
    fn no_seconds_where_leases_are_shorter() {
        let policy = Policy { max_lease_ms: 999, ..Policy::default() };
        let parsed = Terms::parse(&mut Args::new(&super::super::acquire::SPEC, &[b"EX", b"1"]), &policy);
        assert_eq!(parsed, Err(LockError::NoSecond { max_ms: 999 }));
        let policy = Policy { max_lease_ms: 1000, ..policy };
        let parsed = Terms::parse(&mut Args::new(&super::super::acquire::SPEC, &[b"EX", b"1"]), &policy);
        assert_eq!(parsed.unwrap().lease, Some(Lease::ms(1000)));
    }

    #[test]
    fn every_limit_at_the_limit_and_one_beyond() {
        let longest = vec![b'x'; 257];
        assert!(parse(&[b"NOTE", &longest[..256]]).is_ok());
        assert_eq!(parse(&[b"NOTE", &longest]), Err(LockError::NoteLength));
        assert!(parse(&[b"BLOCK", b"86400000"]).is_ok());
        assert!(parse(&[b"BLOCK", b"86400001"]).is_err());
        assert!(parse(&[b"QUEUE", b"86400000"]).is_ok());
        for n in [&b"86400001"[..], b"0", b"-1", b"x"] {
            let error = LockError::Number { what: "QUEUE", min: 1, max: 86_400_000 };
            assert_eq!(parse(&[b"QUEUE", n]), Err(error), "a ticket that nobody asks for must end");
        }
        assert!(parse(&[b"PX", b"604800000"]).is_ok());
        assert!(parse(&[b"PX", b"604800001"]).is_err());
        assert_eq!(parse(&[b"REENTRANT", &longest[..64]]).map(|terms| terms.entry.len()), Ok(64));
        assert_eq!(parse(&[b"REENTRANT", &longest[..65]]), Err(LockError::IdLength));
        assert_eq!(parse(&[b"REENTRANT", b""]), Err(LockError::IdLength));
    }

    #[test]
    fn a_client_that_waits_can_have_its_place_kept() {
        let wait = |words: &[&[u8]]| parse(words).unwrap().wait;
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[b"QUEUE", b"7"]), Some(Wait::ticket(7)));
        let both = Some(Wait { block_ms: Some(5), keep_ms: Some(7) });
        assert_eq!(wait(&[b"BLOCK", b"5", b"QUEUE", b"7"]), both);
        assert_eq!(wait(&[b"queue", b"7", b"block", b"5"]), both);
        let until = |wait: Option<Wait>| wait.and_then(|wait| wait.until(Moment(1)));
        assert_eq!((until(both), until(Some(Wait::ticket(7)))), (Some(Moment(5_001)), None));
        assert_eq!(until(Some(Wait::block(0))), Some(Moment::NEVER));
        assert_eq!(both.map(|wait| wait.deadline(Moment(1))), Some(Moment(7_001)));
        assert_eq!(both.and_then(Wait::unblocked), Some(Wait::ticket(7)));
        let notify = |words: &[&[u8]]| parse(words).map(|terms| terms.notify.map(<[u8]>::to_vec));
        assert_eq!(notify(&[b"NOTIFY", b"c", b"QUEUE", b"7"]), Ok(Some(b"c".to_vec())));
        assert_eq!(notify(&[b"NOTIFY", b"c", b"BLOCK", b"7"]), Err(LockError::NotifyWithoutTicket));
        let longest = vec![b'x'; 1025];
        assert!(notify(&[b"QUEUE", b"7", b"NOTIFY", &longest[..1024]]).is_ok());
        assert_eq!(notify(&[b"QUEUE", b"7", b"NOTIFY", &longest]), Err(LockError::ChannelLength));
        assert_eq!(notify(&[b"QUEUE", b"7", b"NOTIFY", b""]), Err(LockError::ChannelLength));
    }

    #[test]
    fn modes_are_permits() {
        let permits = |words: &[&[u8]]| parse(words).map(|terms| terms.permits);
        assert_eq!(permits(&[]), Ok(Permits::EXCLUSIVE));
        assert_eq!(permits(&[b"SHARED"]), Ok(Permits { limit: ALL, count: 1 }));
        assert_eq!(permits(&[b"LIMIT", b"3"]), Ok(Permits { limit: 3, count: 1 }));
        assert_eq!(permits(&[b"permits", b"3", b"limit", b"3"]), Ok(Permits { limit: 3, count: 3 }));
        let too_many = LockError::Number { what: "PERMITS", min: 1, max: 3 };
        assert_eq!(permits(&[b"LIMIT", b"3", b"PERMITS", b"4"]), Err(too_many), "it could never be granted");
        assert_eq!(permits(&[b"PERMITS", b"1"]), Err(LockError::PermitsWithoutLimit));
        assert_eq!(permits(&[b"SHARED", b"PERMITS", b"1"]), Err(LockError::PermitsWithoutLimit));
        assert_eq!(permits(&[b"SHARED", b"LIMIT", b"3"]), Err(LockError::Repeated("LIMIT")));
        for n in [&b"0"[..], b"-1", b"1000001", b"4294967295", b"9223372036854775808"] {
            assert!(matches!(permits(&[b"LIMIT", n]), Err(LockError::Number { what: "LIMIT", .. })));
        }
        assert!(permits(&[b"LIMIT", b"1000"]).is_ok());
        assert!(permits(&[b"LIMIT", b"1000000", b"PERMITS", b"1"]).is_ok());
        assert_eq!(permits(&[b"LIMIT", b"1001"]), Err(LockError::TooManyHolders { limit: 1_001 }));
    }

    #[test]
    fn repeated_and_contradictory_options_are_refused() {
        assert_eq!(parse(&[b"PX", b"5", b"EX", b"5"]), Err(LockError::Repeated("EX")));
        assert_eq!(parse(&[b"PX", b"5", b"NOEXPIRE"]), Err(LockError::Repeated("NOEXPIRE")));
        assert_eq!(parse(&[b"BLOCK", b"5", b"BLOCK", b"5"]), Err(LockError::Repeated("BLOCK")));
        assert_eq!(
            parse(&[b"QUEUE", b"5", b"BLOCK", b"5", b"QUEUE", b"5"]),
            Err(LockError::Repeated("QUEUE"))
        );
        assert_eq!(parse(&[b"WITHINFO", b"WITHINFO"]), Err(LockError::Repeated("WITHINFO")));
        assert_eq!(parse(&[b"PX"]), Err(LockError::MissingValue("PX")));
        assert_eq!(parse(&[b"XX"]), Err(LockError::UnknownOption(b"XX".to_vec())));
        assert_eq!(parse(&[b"NX", b"nx"]), Err(LockError::Repeated("NX")));
        assert_eq!(parse(&[b"LIMIT", b"2", b"ADOPT", b"adopt"]), Err(LockError::Repeated("ADOPT")));
        assert_eq!(parse(&[b"ADOPT"]), Err(LockError::AdoptWithoutLimit));
        assert_eq!(parse(&[b"SHARED", b"ADOPT"]), Err(LockError::AdoptWithoutLimit));
    }
}
