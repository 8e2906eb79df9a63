//! The opcodes of a pickle, executed on values that stay where they are.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// More values are.
pub const MOST_VALUES: usize = 1 << 21;

/// The place of a value in its pickle.
pub type Id = u32;

/// A value, of the kinds that state dicts and arrays are made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `None`, a number with a fraction, a set: nothing that is read here.
    Other,
    /// An integer or a truth value.
    Int(i64),
    /// A string; of Python 2 also bytes that happen to be UTF-8.
    Text(&'a str),
    /// Other bytes.
    Bytes(&'a [u8]),
    /// A class or a function: module and name.
    Global(&'a str, &'a str),
    /// A tuple or a list.
    Sequence(Vec<Id>),
    /// A dict, also an ordered one, in the order of its writing.
    Dict(Vec<(Id, Id)>),
    /// What a callable would make of its arguments.
    Call(Id, Id),
    /// What lies outside the pickle, by its key: a tensor's storage.
    Stored(Id),
}

/// What executing a pickle leaves.
#[derive(Debug, Default)]
pub struct Executed<'a> {
    /// All values.
    pub values: Vec<Value<'a>>,
    /// The place of the one that was pickled.
    pub root: Id,
    /// The states that objects were given beside their items, by the objects' places.
    pub states: HashMap<Id, Id>,
    /// The length of the pickle in bytes.
    pub len: usize,
}

/// What executes opcodes.
#[derive(Default)]
pub struct Interpreter<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether more bytes follow that are not looked at.
    is_cut: bool,
    values: Vec<Value<'a>>,
    states: HashMap<Id, Id>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

fn broken(what: impl Into<String>) -> Error {
    Error::Failure(what.into())
}

impl<'a> Interpreter<'a> {
    /// Executes the pickle that `bytes` begin with, of `longest` bytes at most.
    ///
    /// # Errors
    /// [`Error::Failure`] for a pickle that is damaged, too long or does more than hold tensors and
    /// arrays.
    pub fn run(bytes: &'a [u8], longest: usize) -> Result<Executed<'a>> {
        let is_cut = bytes.len() > longest;
        let bytes = &bytes[..bytes.len().min(longest)];
        let mut interpreter = Interpreter { bytes, is_cut, ..Interpreter::default() };
        while interpreter.step()? {}
        let root = interpreter.pop()?;
        let Interpreter { values, states, at, .. } = interpreter;
        Ok(Executed { values, root, states, len: at })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| match self.is_cut {
            true => broken(format!("its pickle is longer than {} MiB", self.bytes.len() >> 20)),
            false => broken("its pickle breaks off"),
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian number of `len` bytes, at most 8.
    fn number(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn length(&mut self, len: usize) -> Result<usize> {
        usize::try_from(self.number(len)?).map_err(|_| broken("its pickle breaks off"))
    }

    fn text(&mut self, len: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(len)?).map_err(|_| broken("its pickle has a string that is not UTF-8"))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\n');
        let len = len.ok_or_else(|| broken("its pickle breaks off"))?;
        let line = self.text(len)?;
        self.at += 1;
        Ok(line.trim_end_matches('\r'))
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.values.len() == MOST_VALUES {
            return Err(broken(format!("its pickle makes more than {MOST_VALUES} values")));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// The topmost value's place, not below the last mark.
    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(id) if self.stack.len() > floor => Ok(*id),
            _ => Err(broken("its pickle takes a value that is not there")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let height = self.marks.pop().ok_or_else(|| broken("its pickle takes a mark that is not there"))?;
        Ok(self.stack.split_off(height))
    }

    /// The topmost `len` values as a tuple.
    fn tuple(&mut self, len: usize) -> Result<()> {
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(self.pop()?);
        }
        elements.reverse();
        self.push(Value::Sequence(elements))
    }

    fn memo_get(&mut self, key: u64) -> Result<()> {
        let id = u32::try_from(key).ok().and_then(|key| self.memo.get(&key));
        self.stack.push(*id.ok_or_else(|| broken("its pickle fetches a value that it has not kept"))?);
        Ok(())
    }

    fn memo_put(&mut self, key: u64) -> Result<()> {
        let (key, id) = (u32::try_from(key).map_err(|_| broken("its pickle is damaged"))?, self.top()?);
        self.memo.insert(key, id);
        Ok(())
    }

    /// Adds to the list or tuple on top. What is no list takes no elements, as an object that is
    /// not known.
    fn append(&mut self, added: Vec<Id>) -> Result<()> {
        let top = self.top()? as usize;
        if let Value::Sequence(elements) = &mut self.values[top] {
            elements.extend(added);
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        let top = self.top()? as usize;
        if let Value::Dict(entries) = &mut self.values[top] {
            entries.extend(items.chunks_exact(2).map(|item| (item[0], item[1])));
        }
        Ok(())
    }

    /// What a callable makes of its arguments: a dict of a class of dicts, and a note of anything
    /// else.
    fn call(&mut self) -> Result<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        match self.values[callable as usize] {
            Value::Global("collections", "OrderedDict" | "defaultdict") => self.push(Value::Dict(Vec::new())),
            _ => self.push(Value::Call(callable, arguments)),
        }
    }

    /// Executes one opcode; false after the last.
    fn step(&mut self) -> Result<bool> {
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            code => match self.atom(code)? {
                Some(value) => self.push(value)?,
                None => self.composite(code)?,
            },
        }
        Ok(true)
    }

    /// The value of an opcode that makes one of the bytes behind it alone.
    fn atom(&mut self, code: u8) -> Result<Option<Value<'a>>> {
        Ok(Some(match code {
            b'N' => Value::Other,
            0x88 => Value::Int(1),
            0x89 => Value::Int(0),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            b'J' => self.long(4)?,
            0x8a => {
                let len = self.length(1)?;
                self.long(len)?
            }
            0x8b => {
                let len = self.length(4)?;
                self.long(len)?
            }
            b'G' => self.skipped(8)?,
            b'U' | b'C' => self.bytes(1)?,
            b'T' | b'B' => self.bytes(4)?,
            0x8e => self.bytes(8)?,
            0x8c => {
                let len = self.length(1)?;
                Value::Text(self.text(len)?)
            }
            b'X' => {
                let len = self.length(4)?;
                Value::Text(self.text(len)?)
            }
            0x8d => {
                let len = self.length(8)?;
                Value::Text(self.text(len)?)
            }
            b'c' => Value::Global(self.line()?, self.line()?),
            b')' | b']' => Value::Sequence(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            0x8f => Value::Other,
            _ => return Ok(None),
        }))
    }

    /// Bytes, or a string of Python 2, whose length has `len` bytes.
    fn bytes(&mut self, len: usize) -> Result<Value<'a>> {
        let len = self.length(len)?;
        let bytes = self.take(len)?;
        Ok(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text))
    }

    /// A value of `len` bytes that nothing here reads.
    fn skipped(&mut self, len: usize) -> Result<Value<'a>> {
        self.take(len)?;
        Ok(Value::Other)
    }

    /// An integer of `len` bytes; one beyond 64 bits describes no weights.
    fn long(&mut self, len: usize) -> Result<Value<'a>> {
        match len {
            0 => Ok(Value::Int(0)),
            1..=8 => {
                let unused = 64 - 8 * len as u32;
                Ok(Value::Int((self.number(len)? << unused) as i64 >> unused))
            }
            _ => self.skipped(len),
        }
    }

    /// An opcode that works on the stack or the memo.
    fn composite(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b't' | b'l' => {
                let elements = self.pop_to_mark()?;
                self.push(Value::Sequence(elements))?;
            }
            0x85..=0x87 => self.tuple(usize::from(code) - 0x84)?,
            b'a' => {
                let element = self.pop()?;
                self.append(vec![element])?;
            }
            b'e' => {
                let elements = self.pop_to_mark()?;
                self.append(elements)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)?;
            }
            // Elements of a set.
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other)?;
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                // Keyword arguments.
                self.pop()?;
                self.call()?;
            }
            // An object's state beside its items: an array's is its shape and its bytes.
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                self.states.insert(object, state);
            }
            0x93 => self.stack_global()?,
            b'Q' => {
                let key = self.pop()?;
                self.push(Value::Stored(key))?;
            }
            code => self.memorise(code)?,
        }
        Ok(())
    }

    /// An opcode that puts what lies on the stack into the memo, or takes it from there.
    fn memorise(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' | b'h' => self.number(1)?,
            b'r' | b'j' => self.number(4)?,
            0x94 => self.memo.len() as u64,
            code => {
                return Err(broken(format!(
                    "its pickle has the opcode {code:#04x}, which neither PyTorch nor NumPy writes"
                )));
            }
        };
        if matches!(code, b'h' | b'j') { self.memo_get(key) } else { self.memo_put(key) }
    }

    fn stack_global(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.values[module as usize], &self.values[name as usize]) {
            (Value::Text(module), Value::Text(name)) => self.push(Value::Global(module, name)),
            _ => Err(broken("its pickle names a class by something that is no string")),
        }
    }
}
