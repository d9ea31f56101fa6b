// Pushes JSON objects, one a line of standard input, into an inlet (protocol/SPEC.md, section 12).
//
//   npm install zeromq @msgpack/msgpack
//   node push.mjs tcp://127.0.0.1:5556 camera-1 < records.jsonl
//
// Started again with the same name and input it goes on where it was. A third argument is the schema, as JSON.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const [url, writer, schema] = process.argv.slice(2);
const AT_ONCE = 200, MOST_BYTES = 1 << 20;
const socket = new Dealer({ linger: 100 });
socket.connect(url);
const say = (type, fields, ...frames) => socket.send([encode({ v: 1, type, session, ...fields }), ...frames]);

let session, greeted = false, heard, asked, moved; // the times of the last word, hello, and progress
let read = 0, ended = false; // lines of the input
let kept = [], first = 0; // the records that are not durable yet, and the number of the first
let due = 0, until = 0, next = 0; // as in the specification; and what is to be sent next

function fail(text) {
  console.error(`refused: ${text}`);
  process.exit(1);
}

async function hello() {
  session = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
  greeted = false;
  asked = heard = moved = Date.now();
  await say("hello", { writer, schema: schema ? JSON.parse(schema) : null });
}

async function hear(header) {
  if (header.session !== session && header.session !== null) return; // stale
  heard = Date.now();
  if (header.type === "refusal") {
    if (header.code === "no_session") return hello();
    if (header.code !== "gap") fail(header.text);
    next = header.end;
    return;
  }
  if (header.due < first) fail(`the log wants record ${header.due}, which is gone here`);
  if (header.type === "greeting") [greeted, next] = [true, header.due];
  if (header.due > due) moved = heard;
  ({ due, until } = header);
  kept = kept.slice(Math.max(0, header.durable - first)); // of what is durable nothing need be kept
  first = Math.max(first, header.durable);
  next = Math.max(next, first);
  return header.done;
}

async function send() {
  if (next > due && Date.now() - moved > 1000) [next, moved] = [due, Date.now()]; // some were lost
  while (greeted && next < Math.min(until, first + kept.length)) {
    let records = kept.slice(next - first, Math.min(until, next + AT_ONCE) - first), packed = encode(records);
    while (packed.length > MOST_BYTES && records.length > 1) {
      records = records.slice(0, records.length >> 1);
      packed = encode(records);
    }
    await say("records", { number: next, count: records.length }, packed);
    next += records.length;
  }
  if (greeted && ended && due >= read) await say("done", { number: read });
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let line = lines.next().then((it) => ({ it })), word = socket.receive().then(([frame]) => ({ frame }));
await hello();
for (let done = false; !done; ) {
  const wantsLine = greeted && !ended && first + kept.length < until;
  const { it, frame } = await Promise.race([word, sleep(50, {}), ...(wantsLine ? [line] : [])]);
  if (frame) word = socket.receive().then(([frame]) => ({ frame }));
  if (frame) done = await hear(decode(frame));
  if (it?.done) ended = true;
  else if (it && read++ >= first) kept.push(JSON.parse(it.value));
  if (it && !ended) line = lines.next().then((it) => ({ it }));
  if (greeted ? Date.now() - heard > 4000 : Date.now() - asked > 500) await hello();
  if (!done && (!it || ended || first + kept.length - next >= AT_ONCE)) await send();
}
console.log(`${read} records are durable`);
process.exit(0); // a receive is still under way
