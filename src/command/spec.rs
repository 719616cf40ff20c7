//! A command as data: what the server is told about it (arity, flags, key, ACL categories, documentation), and the grammar of
//! its options, by which they are read.

use super::token::{Token, Tokens};

/// One command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub name: &'static str,
    pub summary: &'static str,
    /// The server's command flags.
    pub flags: &'static str,
    /// Words including the name; negative: at least as many.
    pub arity: i32,
    pub key: Key,
    /// ACL categories, where the server lets modules name them.
    pub acl: &'static str,
    /// The cost of a call, for people.
    pub complexity: &'static str,
    /// The version of the module that had it first.
    pub since: &'static str,
    pub args: &'static [Arg],
    pub grammar: Grammar,
}

/// The use that a command makes of its key, and where the key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    /// The first word is the key, which is only read.
    Read,
    /// The first word is the key, which is changed.
    Write,
    /// The first word is a key that is only read, and the command itself tells of more.
    ReadAndMore,
    /// A number of keys and as many of them, all changed; the number is this word, counted from the name.
    Numbered {
        at: u8,
    },
}

impl Spec {
    /// The rest of a command that changes its key.
    pub(crate) const WRITES_KEY: Self = Self {
        name: "",
        summary: "",
        flags: "",
        arity: 0,
        key: Key::Write,
        acl: "",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[],
        grammar: Grammar::NONE,
    };
    /// The rest of a command that reads its key.
    pub(crate) const READS_KEY: Self = Self { key: Key::Read, ..Self::WRITES_KEY };
    /// The rest of a command without a key.
    pub(crate) const KEYLESS: Self = Self { key: Key::None, ..Self::WRITES_KEY };

    /// Whether the command is for the AOF and replicas, and not for users.
    pub(crate) fn is_internal(&self) -> bool {
        self.name.contains("._")
    }

    /// The option that this word names, and those of which none may have been given before it. Returns `None` if the command
    /// has no such option.
    #[inline]
    pub(crate) fn option(&self, word: &[u8]) -> Option<(Token, Tokens)> {
        let token = Tokens::find(self.grammar.options, word)?;
        let itself = Tokens::of(token);
        let group = self.grammar.choices.into_iter().find(|choices| choices.overlap(itself));
        Some((token, group.unwrap_or(itself)))
    }

    /// The same with its grammar, which follows from the arguments.
    pub(crate) const fn with_grammar(self) -> Self {
        Self { grammar: Grammar::of(self.args), ..self }
    }

    /// The command's line in a manual.
    pub(crate) fn syntax(&self) -> String {
        let mut line = self.name.to_uppercase();
        for arg in self.args {
            line.push(' ');
            line.push_str(&arg.syntax());
        }
        line
    }
}

/// Which options there are, and which exclude each other: what the arguments say, as it is looked up for each word of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grammar {
    options: Tokens,
    /// Of each group one can stand.
    choices: [Tokens; 2],
}

impl Grammar {
    const NONE: Self = Self { options: Tokens::NONE, choices: [Tokens::NONE; 2] };

    const fn of(mut args: &[Arg]) -> Self {
        let mut grammar = Self::NONE;
        while let [arg, rest @ ..] = args {
            grammar.options = grammar.options.and(arg.tokens());
            if let ArgType::OneOf(choices) = arg.kind {
                let [first, second] = grammar.choices;
                assert!(!second.overlap(second), "there is room for two groups");
                grammar.choices = [Arg::heads(choices), first];
            }
            args = rest;
        }
        grammar
    }
}

/// One argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arg {
    pub name: &'static str,
    pub kind: ArgType,
    /// The option word before it.
    pub token: Option<Token>,
    pub optional: bool,
    /// Whether there can be several, one after the other.
    pub many: bool,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ArgType {
    Key,
    String,
    Integer,
    /// The token alone.
    Word,
    OneOf(&'static [Arg]),
    /// All of these, in this order.
    Block(&'static [Arg]),
}

impl Arg {
    /// The lock's key.
    pub(crate) const KEY: Self = Self::new("key", ArgType::Key);

    /// Any bytes.
    pub(crate) const fn string(name: &'static str) -> Self {
        Self::new(name, ArgType::String)
    }

    /// A whole number.
    pub(crate) const fn int(name: &'static str) -> Self {
        Self::new(name, ArgType::Integer)
    }

    /// An option that is only its own word.
    pub(crate) const fn word(name: &'static str, token: Token) -> Self {
        Self::new(name, ArgType::Word).after(token)
    }

    /// One of several.
    pub(crate) const fn one_of(name: &'static str, choices: &'static [Self]) -> Self {
        Self::new(name, ArgType::OneOf(choices))
    }

    /// Several together.
    pub(crate) const fn block(name: &'static str, parts: &'static [Self]) -> Self {
        Self::new(name, ArgType::Block(parts))
    }

    const fn new(name: &'static str, kind: ArgType) -> Self {
        Self { name, kind, token: None, optional: false, many: false }
    }

    /// The same, behind an option word.
    pub(crate) const fn after(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The same, and one can do without it.
    pub(crate) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The same, once or several times.
    pub(crate) const fn many(self) -> Self {
        Self { many: true, ..self }
    }

    /// All tokens in it.
    const fn tokens(&self) -> Tokens {
        let mut all = match self.token {
            Some(token) => Tokens::of(token),
            None => Tokens::NONE,
        };
        if let ArgType::Block(mut parts) | ArgType::OneOf(mut parts) = self.kind {
            while let [part, rest @ ..] = parts {
                all = all.and(part.tokens());
                parts = rest;
            }
        }
        all
    }

    /// The tokens with which these begin.
    const fn heads(mut choices: &[Self]) -> Tokens {
        let mut heads = Tokens::NONE;
        while let [choice, rest @ ..] = choices {
            heads = heads.and(match (choice.kind, choice.token) {
                (ArgType::Block([first, ..]), _) => Self::heads(std::slice::from_ref(first)),
                (_, Some(token)) => Tokens::of(token),
                (_, None) => Tokens::NONE,
            });
            choices = rest;
        }
        heads
    }

    fn join(args: &[Self], between: &str) -> String {
        args.iter().map(Self::syntax).collect::<Vec<_>>().join(between)
    }

    fn syntax(&self) -> String {
        let value = match self.kind {
            ArgType::Word => String::new(),
            ArgType::OneOf(choices) => Self::join(choices, " | "),
            ArgType::Block(parts) => Self::join(parts, " "),
            ArgType::Key | ArgType::String | ArgType::Integer => self.name.to_owned(),
        };
        let words: Vec<&str> = self
            .token
            .map(Token::text)
            .into_iter()
            .chain(Some(value.as_str()))
            .filter(|w| !w.is_empty())
            .collect();
        let more = if self.many { " ..." } else { "" };
        let text = words.join(" ") + more;
        if self.optional {
            format!("[{text}]")
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn syntax_is_a_line_of_the_manual() {
        assert_eq!(
            super::super::acquire::SPEC.syntax(),
            "LOCK.ACQUIRE key owner [NX] [PX milliseconds | EX seconds | NOEXPIRE] [BLOCK wait-milliseconds] [QUEUE ticket-milliseconds [NOTIFY channel]] \
             [SHARED | LIMIT limit [ADOPT] [PERMITS permits]] [FENCE fence] [REENTRANT id] [TIED grace-milliseconds] [MAXHOLD maxhold-milliseconds] [MINHOLD minhold-milliseconds] [NOTE note] [WITHINFO]"
        );
    }
}
