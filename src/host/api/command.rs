//! Commands of ours, and how they are described to the server.

use std::ffi::{c_int, CStr, CString};
use std::mem::size_of;
use std::ptr::{self, NonNull};

use redis_module::raw;

use super::{rm, rm_if_there, Ctx, OK};
use crate::command::spec::{Arg, ArgType, Key, Spec};

/// A command that the server has.
pub(in crate::host) struct CommandHandle(NonNull<raw::RedisModuleCommand>);

impl CommandHandle {
    pub(in crate::host) fn named(ctx: Ctx, name: &CStr) -> Option<Self> {
        NonNull::new(rm!(RedisModule_GetCommand(ctx.as_ptr(), name.as_ptr()))).map(Self)
    }

    /// Tells what the command is for, where its keys are and which words it takes. Returns whether the server takes it.
    pub(in crate::host) fn describe(&self, spec: &Spec) -> bool {
        let mut texts = Texts::default();
        let mut keys = key_specs(spec.key);
        let args = texts.args(spec.args);
        let info = raw::RedisModuleCommandInfo {
            version: &raw const INFO_VERSION,
            summary: texts.keep(spec.summary),
            complexity: texts.keep(spec.complexity),
            since: texts.keep(spec.since),
            history: ptr::null_mut(),
            tips: ptr::null(),
            arity: spec.arity,
            key_specs: if spec.key == Key::None { ptr::null_mut() } else { keys.as_mut_ptr() },
            args,
        };
        rm!(RedisModule_SetCommandInfo(self.0.as_ptr(), &raw const info)) == OK
    }

    /// Puts the command into these categories, which a space separates, where modules can. Returns whether the server takes it.
    pub(in crate::host) fn categorize(&self, categories: &CStr) -> bool {
        let done = rm_if_there!(RedisModule_SetCommandACLCategories(self.0.as_ptr(), categories.as_ptr()));
        done.is_none_or(|done| done == OK)
    }
}

static INFO_VERSION: raw::RedisModuleCommandInfoVersion = raw::RedisModuleCommandInfoVersion {
    version: 1,
    sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
    sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
    sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
};

/// Where the keys stand, and the end of the list.
fn key_specs(key: Key) -> [raw::RedisModuleCommandKeySpec; 2] {
    let flags = match key {
        Key::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        Key::ReadAndMore => {
            raw::REDISMODULE_CMD_KEY_RO
                | raw::REDISMODULE_CMD_KEY_ACCESS
                | raw::REDISMODULE_CMD_KEY_INCOMPLETE
                | raw::REDISMODULE_CMD_KEY_VARIABLE_FLAGS
        }
        Key::Write | Key::Numbered { .. } | Key::None => {
            raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE
        }
    };
    // SAFETY: all zeros is what the server takes for the end of the list, and a valid value of the structure.
    let end: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
    let mut spec = end;
    spec.flags = u64::from(flags);
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    let pos = if let Key::Numbered { at } = key { c_int::from(at) } else { 1 };
    spec.bs.index = raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 { pos };
    if let Key::Numbered { .. } = key {
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;
        spec.fk.keynum = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 {
            keynumidx: 0,
            firstkey: 1,
            keystep: 1,
        };
    } else {
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        spec.fk.range =
            raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 { lastkey: 0, keystep: 1, limit: 0 };
    }
    [spec, end]
}

fn arg_flags(arg: &Arg) -> c_int {
    let optional = if arg.optional { raw::REDISMODULE_CMD_ARG_OPTIONAL } else { 0 };
    let many = if arg.many { raw::REDISMODULE_CMD_ARG_MULTIPLE } else { 0 };
    (optional | many) as c_int
}

/// Strings and lists that must live until the server has copied them.
#[derive(Default)]
struct Texts {
    strings: Vec<CString>,
    lists: Vec<Box<[raw::RedisModuleCommandArg]>>,
}

impl Texts {
    fn keep(&mut self, text: &str) -> *const std::ffi::c_char {
        let string = CString::new(text).unwrap_or_default();
        let start = string.as_ptr();
        self.strings.push(string);
        start
    }

    fn args(&mut self, args: &[Arg]) -> *mut raw::RedisModuleCommandArg {
        if args.is_empty() {
            return ptr::null_mut();
        }
        // SAFETY: all zeros is what the server takes for the end of the list, and a valid value of the structure.
        let end: raw::RedisModuleCommandArg = unsafe { std::mem::zeroed() };
        let mut list: Vec<_> = args.iter().map(|arg| self.arg(arg)).collect();
        list.push(end);
        let mut list = list.into_boxed_slice();
        let start = list.as_mut_ptr();
        self.lists.push(list);
        start
    }

    fn arg(&mut self, arg: &Arg) -> raw::RedisModuleCommandArg {
        let (kind, subargs) = match arg.kind {
            ArgType::Key => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, ptr::null_mut()),
            ArgType::String => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, ptr::null_mut()),
            ArgType::Integer => {
                (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, ptr::null_mut())
            }
            ArgType::Word => {
                (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, ptr::null_mut())
            }
            ArgType::Block(parts) => {
                (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, self.args(parts))
            }
            ArgType::OneOf(choices) => {
                (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, self.args(choices))
            }
        };
        raw::RedisModuleCommandArg {
            name: self.keep(arg.name),
            type_: kind,
            key_spec_index: if matches!(arg.kind, ArgType::Key) { 0 } else { -1 },
            token: arg.token.map_or(ptr::null(), |token| self.keep(token.text())),
            summary: ptr::null(),
            since: ptr::null(),
            flags: arg_flags(arg),
            deprecated_since: ptr::null(),
            subargs,
            display_text: ptr::null(),
        }
    }
}
