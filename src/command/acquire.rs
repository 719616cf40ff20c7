//! `LOCK.ACQUIRE key owner|* [PX ms | EX s | NOEXPIRE] [BLOCK ms] [SHARED | LIMIT n [PERMITS k]] [FENCE n]
//! [NOTE text] [WITHINFO]`
//!
//! Replies the fence, or nil when somebody else has the lock. The same owner again gets the same fence, and its
//! lease is raised, never cut, so that a request whose reply was lost can be sent again. With FENCE the request
//! only ever confirms the hold of that fence.

use super::args::{set_once, Args};
use super::policy::{Policy, Wait};
use super::spec::{Arg, Spec};
use crate::error::LockError;
use crate::limits::PERMITS_MAX;
use crate::primitive::claim::ALL;
use crate::primitive::hold::Note;
use crate::primitive::lock::Mismatch;
use crate::primitive::wait_queue::{Ask, Full};
use crate::primitive::{Claim, Fence, Lease, Owner, Turn, WaiterId};

pub const SPEC: Spec = Spec {
    name: "lock.acquire",
    summary: "Takes a lock, or waits for it in line; replies its fencing token. Owner * lets the server make one up.",
    flags: "write deny-oom",
    arity: -3,
    acl: "write fast blocking",
    args: &[
        Arg::KEY,
        Arg::string("owner"),
        Arg::one_of(
            "lease",
            &[
                Arg::int("milliseconds").after("PX"),
                Arg::int("seconds").after("EX"),
                Arg::word("no-expiry", "NOEXPIRE"),
            ],
        )
        .optional(),
        Arg::int("wait-milliseconds").after("BLOCK").optional(),
        Arg::one_of("mode", &[
            Arg::word("shared", "SHARED"),
            Arg::block("semaphore", &[
                Arg::int("limit").after("LIMIT"),
                Arg::int("permits").after("PERMITS").optional(),
            ]),
        ])
        .optional(),
        Arg::int("fence").after("FENCE").optional(),
        Arg::string("note").after("NOTE").optional(),
        Arg::word("with-info", "WITHINFO").optional(),
    ],
    ..Spec::WRITES_KEY
};

/// The request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acquire<'a> {
    pub key: &'a [u8],
    /// Nothing when the server shall make one up (`*`).
    pub owner: Option<&'a [u8]>,
    /// The permits that the request wants.
    pub claim: Claim,
    /// Nothing for the default.
    pub lease: Option<Lease>,
    /// Nothing for a try.
    pub wait: Option<Wait>,
    pub fence: Option<Fence>,
    pub note: Option<&'a [u8]>,
    pub with_info: bool,
}

/// What came of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// A new hold.
    Granted(Fence),
    /// The hold that the owner had already.
    Held(Fence),
    /// Somebody else has it, or comes first.
    Busy,
    /// The owner does not hold the lock with the fence it named.
    NotHeld,
}

impl<'a> Acquire<'a> {
    /// Reads the words after the command's name.
    pub fn parse(words: &'a [&'a [u8]], policy: &Policy) -> Result<Self, LockError> {
        let mut args = Args::new(SPEC.name, words);
        let key = args.new_key()?;
        let owner = args.owner()?;
        let (mut lease, mut wait, mut fence, mut note, mut info) = (None, None, None, None, None);
        let (mut limit, mut permits) = (None, None);
        while let Some(word) = args.next_word() {
            if word.eq_ignore_ascii_case(b"PX") {
                set_once(&mut lease, "PX", policy.lease_ms(&mut args)?)?;
            } else if word.eq_ignore_ascii_case(b"EX") {
                set_once(&mut lease, "EX", policy.lease_s(&mut args)?)?;
            } else if word.eq_ignore_ascii_case(b"NOEXPIRE") {
                set_once(&mut lease, "NOEXPIRE", Lease::NEVER)?;
            } else if word.eq_ignore_ascii_case(b"BLOCK") {
                set_once(&mut wait, "BLOCK", policy.wait(&mut args)?)?;
            } else if word.eq_ignore_ascii_case(b"SHARED") {
                set_once(&mut limit, "SHARED", ALL)?;
            } else if word.eq_ignore_ascii_case(b"LIMIT") {
                set_once(&mut limit, "LIMIT", args.permits("LIMIT", PERMITS_MAX)?)?;
            } else if word.eq_ignore_ascii_case(b"PERMITS") {
                set_once(&mut permits, "PERMITS", args.permits("PERMITS", PERMITS_MAX)?)?;
            } else if word.eq_ignore_ascii_case(b"FENCE") {
                set_once(&mut fence, "FENCE", args.fence()?)?;
            } else if word.eq_ignore_ascii_case(b"NOTE") {
                set_once(&mut note, "NOTE", args.note()?)?;
            } else if word.eq_ignore_ascii_case(b"WITHINFO") {
                set_once(&mut info, "WITHINFO", ())?;
            } else {
                return Err(LockError::UnknownOption(word.to_vec()));
            }
        }
        let owner = (owner != b"*").then_some(owner);
        let claim = claim(limit, permits)?;
        Ok(Self { key, owner, claim, lease, wait, fence, note, with_info: info.is_some() })
    }

    /// Takes the lock for `owner` if that is possible now.
    pub fn apply(&self, owner: &[u8], turn: &mut Turn, policy: &Policy) -> Result<Acquired, LockError> {
        let claim = self.claim;
        turn.settle();
        if let Some(hold) = turn.lock.hold_of(owner) {
            let (fence, deadline) = (hold.fence, hold.deadline);
            if self.fence.is_some_and(|expected| expected != fence) {
                return Ok(Acquired::NotHeld);
            }
            if hold.claim != claim {
                return Err(LockError::Mode { is: hold.claim.mode() });
            }
            turn.memory.confirm(fence);
            let lease = self.lease(policy);
            if lease.deadline(turn.clock.now) > deadline {
                turn.raise(owner, lease);
            }
            return Ok(Acquired::Held(fence));
        }
        if self.fence.is_some() {
            return Ok(Acquired::NotHeld);
        }
        match turn.lock.mismatch(claim) {
            Some(Mismatch::Mode) => return Err(LockError::Mode { is: mode_word(turn) }),
            Some(Mismatch::Limit) => return Err(LockError::Limit { is: turn.lock.limit() }),
            None => {}
        }
        if turn.has_queue() || !turn.lock.admits(claim) {
            return Ok(Acquired::Busy);
        }
        let ask = self.ask(owner, policy)?;
        Ok(Acquired::Granted(turn.grant(ask, None)))
    }

    /// Whether `owner` could be put into the queue, after [`Acquire::apply`] found the lock busy.
    pub fn check_room(&self, owner: &[u8], turn: &Turn, policy: &Policy) -> Result<(), LockError> {
        turn.check_room(owner, policy.caps).map_err(|full| match full {
            Full::Server(max) => LockError::ServerQueueFull(max),
            Full::Key(max) => LockError::KeyQueueFull(max),
        })
    }

    /// Puts `owner` into the queue; there must be room.
    pub fn enqueue(
        &self,
        owner: &[u8],
        wait: Wait,
        turn: &mut Turn,
        policy: &Policy,
    ) -> Result<WaiterId, LockError> {
        let ask = self.ask(owner, policy)?;
        Ok(turn.enqueue(ask, wait.deadline(turn.clock.now)))
    }

    fn lease(&self, policy: &Policy) -> Lease {
        self.lease.unwrap_or(Lease::ms(policy.default_lease_ms.unsigned_abs()))
    }

    fn ask(&self, owner: &[u8], policy: &Policy) -> Result<Ask, LockError> {
        Ok(Ask {
            owner: Owner::new(owner).ok_or(LockError::OwnerLength)?,
            claim: self.claim,
            lease: self.lease(policy),
            note: self.note.and_then(Note::new),
        })
    }
}

/// The claim of these options; [`ALL`] as a limit stands for SHARED.
fn claim(limit: Option<u32>, permits: Option<u32>) -> Result<Claim, LockError> {
    match (limit, permits) {
        (None, None) => Ok(Claim::EXCLUSIVE),
        (None | Some(ALL), Some(_)) => Err(LockError::PermitsWithoutLimit),
        (Some(limit), permits) => {
            let max = i64::from(limit);
            Claim::new(limit, permits.unwrap_or(1)).ok_or(LockError::Number { what: "PERMITS", min: 1, max })
        }
    }
}

fn mode_word(turn: &Turn) -> &'static str {
    turn.lock.holds().first().map_or("free", |hold| hold.claim.mode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(words: &'a [&'a [u8]]) -> Result<Acquire<'a>, LockError> {
        Acquire::parse(words, &Policy::default())
    }

    #[test]
    fn the_plain_form() {
        let request = parse(&[b"k", b"o"]).unwrap();
        assert_eq!(
            (request.key, request.owner, request.lease, request.wait),
            (&b"k"[..], Some(&b"o"[..]), None, None)
        );
    }

    #[test]
    fn a_star_asks_for_an_owner() {
        assert_eq!(parse(&[b"k", b"*"]).unwrap().owner, None);
        assert_eq!(parse(&[b"k", b"**"]).unwrap().owner, Some(&b"**"[..]));
    }

    #[test]
    fn options_in_any_order_and_case() {
        let one =
            parse(&[b"k", b"o", b"px", b"5", b"Block", b"0", b"NOTE", b"", b"withinfo", b"fence", b"9"])
                .unwrap();
        let other =
            parse(&[b"k", b"o", b"FENCE", b"9", b"WITHINFO", b"NOTE", b"", b"BLOCK", b"0", b"PX", b"5"])
                .unwrap();
        assert_eq!(one, other);
        assert_eq!((one.lease, one.wait), (Some(Lease::ms(5)), Some(Wait(0))));
    }

    #[test]
    fn seconds_are_milliseconds_and_cannot_wrap() {
        assert_eq!(parse(&[b"k", b"o", b"EX", b"2"]).unwrap().lease, Some(Lease::ms(2000)));
        for n in [&b"0"[..], b"-1", b"604801", b"9223372036854775807", b"9223372036854775808"] {
            let error = LockError::Number { what: "EX", min: 1, max: 604_800 };
            assert_eq!(parse(&[b"k", b"o", b"EX", n]), Err(error));
        }
    }

    #[test]
    fn every_limit_at_the_limit_and_one_beyond() {
        let longest = vec![b'x'; 1025];
        assert!(parse(&[&longest[..1024], b"o"]).is_ok());
        assert_eq!(parse(&[&longest, b"o"]), Err(LockError::KeyLength));
        assert!(parse(&[b"k", &longest[..256]]).is_ok());
        assert_eq!(parse(&[b"k", &longest[..257]]), Err(LockError::OwnerLength));
        assert_eq!(parse(&[b"k", b""]), Err(LockError::OwnerLength));
        assert!(parse(&[b"k", b"o", b"NOTE", &longest[..256]]).is_ok());
        assert_eq!(parse(&[b"k", b"o", b"NOTE", &longest[..257]]), Err(LockError::NoteLength));
        assert!(parse(&[b"k", b"o", b"BLOCK", b"86400000"]).is_ok());
        assert!(parse(&[b"k", b"o", b"BLOCK", b"86400001"]).is_err());
        assert!(parse(&[b"k", b"o", b"PX", b"604800000"]).is_ok());
        assert!(parse(&[b"k", b"o", b"PX", b"604800001"]).is_err());
    }

    #[test]
    fn modes_are_claims() {
        let claim =
            |words: &[&[u8]]| parse(&[&[&b"k"[..], b"o"], words].concat()).map(|request| request.claim);
        assert_eq!(claim(&[]), Ok(Claim::EXCLUSIVE));
        assert_eq!(claim(&[b"SHARED"]), Ok(Claim { limit: ALL, permits: 1 }));
        assert_eq!(claim(&[b"LIMIT", b"3"]), Ok(Claim { limit: 3, permits: 1 }));
        assert_eq!(claim(&[b"permits", b"3", b"limit", b"3"]), Ok(Claim { limit: 3, permits: 3 }));
        let too_many = LockError::Number { what: "PERMITS", min: 1, max: 3 };
        assert_eq!(claim(&[b"LIMIT", b"3", b"PERMITS", b"4"]), Err(too_many), "it could never be granted");
        assert_eq!(claim(&[b"PERMITS", b"1"]), Err(LockError::PermitsWithoutLimit));
        assert_eq!(claim(&[b"SHARED", b"PERMITS", b"1"]), Err(LockError::PermitsWithoutLimit));
        assert_eq!(claim(&[b"SHARED", b"LIMIT", b"3"]), Err(LockError::Repeated("LIMIT")));
        for n in [&b"0"[..], b"-1", b"1000001", b"4294967295", b"9223372036854775808"] {
            assert!(matches!(claim(&[b"LIMIT", n]), Err(LockError::Number { what: "LIMIT", .. })));
        }
        assert!(claim(&[b"LIMIT", b"1000000"]).is_ok());
    }

    #[test]
    fn repeated_and_contradictory_options_are_refused() {
        assert_eq!(parse(&[b"k", b"o", b"PX", b"5", b"EX", b"5"]), Err(LockError::Repeated("EX")));
        assert_eq!(parse(&[b"k", b"o", b"PX", b"5", b"NOEXPIRE"]), Err(LockError::Repeated("NOEXPIRE")));
        assert_eq!(parse(&[b"k", b"o", b"BLOCK", b"5", b"BLOCK", b"5"]), Err(LockError::Repeated("BLOCK")));
        assert_eq!(parse(&[b"k", b"o", b"WITHINFO", b"WITHINFO"]), Err(LockError::Repeated("WITHINFO")));
        assert_eq!(parse(&[b"k", b"o", b"PX"]), Err(LockError::MissingValue("PX")));
        assert_eq!(parse(&[b"k", b"o", b"NX"]), Err(LockError::UnknownOption(b"NX".to_vec())));
        assert_eq!(parse(&[b"k"]), Err(LockError::Arity("lock.acquire")));
    }
}
