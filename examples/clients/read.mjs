// Reads a stream from its beginning to its end (protocol/SPEC.md, sections 1 to 7): each record as a line of JSON.
//
//   npm install zeromq @msgpack/msgpack
//   node read.mjs tcp://127.0.0.1:5555
import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const ARRAYS = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array,
  int32: Int32Array, uint64: BigUint64Array, int64: BigInt64Array, float32: Float32Array, float64: Float64Array,
};
const socket = new Dealer({ linger: 100, receiveTimeout: 500 });
socket.connect(process.argv[2]);
const drawn = () => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
const say = (type, fields) => socket.send(encode({ v: 1, type, ...fields }));
const hear = () => socket.receive().then(([frame, ...columns]) => [decode(frame), columns], () => [{}, []]);
const pairs = (positions) => [...positions];

function* records(fields, count, columns) { // section 5
  const parts = fields.map(([, dtype, shape]) => {
    const ragged = shape[0] === null, Kind = ARRAYS[dtype];
    const whole = (frame, Kind) => new Kind(new Uint8Array(frame).buffer); // a copy, whose alignment is right
    const item = shape.slice(ragged ? 1 : 0).reduce((size, each) => size * each, 1);
    const lengths = ragged ? whole(columns.shift(), Uint32Array) : new Uint32Array(count).fill(1);
    return { values: whole(columns.shift(), Kind), lengths, item, scalar: shape.length === 0, at: 0 };
  });
  for (let row = 0; row < count; row++) {
    yield Object.fromEntries(parts.map((part, number) => {
      const value = Array.from(part.values.subarray(part.at, (part.at += part.lengths[row] * part.item)), Number);
      return [fields[number][0], part.scalar ? value[0] : value];
    }));
  }
}

let answer = {};
for (let request; answer.request === undefined || answer.request !== request; [answer] = await hear()) {
  request = drawn();
  await say("describe", { request, split: "" });
}
const { schema, stripe, incarnation } = answer.info;
const received = new Map(answer.log_start);
const turn = (positions) => // section 6: whose record is the next in stream order
  pairs(positions).map(([p, o]) => [Math.floor(o / stripe), p]).sort(([a, p], [b, q]) => a - b || p - q)[0][1];
const none = { group: null, durable: false, trained: [], committed: null };
let session, welcome, heard;

async function subscribe() {
  [session, welcome, heard] = [drawn(), false, Date.now()];
  await say("subscribe", { session, split: "", incarnation, positions: pairs(received), ...none });
}
async function grant() { // section 7: two stripes of each partition, in stream order, are a window
  const until = new Map(received);
  for (let more = 2 * received.size; more > 0; more--) {
    const partition = turn(until);
    until.set(partition, (Math.floor(until.get(partition) / stripe) + 1) * stripe);
  }
  await say("credit", { session, until: pairs(until), trained: [], durable: false });
}

await subscribe();
for (;;) {
  const [header, columns] = await hear();
  if (header.session === session) heard = Date.now();
  else if (Date.now() - heard > (welcome ? 4000 : 1000)) await subscribe();
  if (header.session !== session && header.type) continue; // stale
  const partition = header.partition, here = received.get(partition);
  if (header.type === "refusal" && header.code !== "no_session") throw new Error(header.text);
  if (header.type === "refusal") await subscribe();
  else if (header.type === "welcome") welcome = true;
  else if (header.type === "chunk" && welcome && (header.offset > here || partition !== turn(received))) {
    await subscribe(); // one was lost
  } else if (header.type === "chunk" && welcome) {
    const rows = [...records(schema.fields, header.count, columns)];
    rows.slice(here - header.offset).forEach((record, row) => {
      console.log(JSON.stringify({ partition, offset: here + row, record }));
    });
    received.set(partition, Math.max(here, header.offset + header.count));
  } else if (header.type === "status" && header.next.some(([p, offset]) => offset > received.get(p))) await subscribe();
  else if (header.type === "end" && header.final.every(([p, offset]) => offset === received.get(p))) break;
  if (welcome) await grant();
}
await say("bye", { session });
socket.close();
