/* Reads a stream from its beginning to its end (protocol/SPEC.md, sections 1 to 7): a line for each record.
 *
 *   cc -O2 -o read read.c -lzmq -lmsgpackc      (Debian: libzmq3-dev libmsgpack-dev)
 *   ./read tcp://127.0.0.1:5555
 *
 * A line is partition, offset, and for each field name=bytes, in hexadecimal. */
#include "wire.h"

enum { PARTITIONS = 4096, FIELDS = 64 };
static uint64_t received[PARTITIONS], session, stripe; /* the next offset of each partition */
static uint32_t partitions, fields;
static char names[FIELDS][513];
static int ragged[FIELDS];
static size_t item[FIELDS]; /* bytes of a value, or of an element of a ragged one */
static void *dealer;

static const struct { const char *name; size_t bytes; } DTYPES[] = {
    {"bool", 1}, {"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4}, {"uint64", 8},
    {"int64", 8}, {"float16", 2}, {"float32", 4}, {"float64", 8}, {"complex64", 8}, {"complex128", 16}, {NULL, 0}};

static void describe(const msgpack_object *info) { /* section 4 */
    const msgpack_object *all = get(get(info, "schema"), "fields");
    stripe = get_number(info, "stripe"), partitions = get_number(info, "partitions"), fields = all->via.array.size;
    for (uint32_t f = 0; f < fields; f++) {
        const msgpack_object *field = all->via.array.ptr[f].via.array.ptr, *shape = &field[2];
        snprintf(names[f], sizeof names[f], "%.*s", (int)field[0].via.str.size, field[0].via.str.ptr);
        for (int i = 0; DTYPES[i].name; i++) if (is(&field[1], DTYPES[i].name)) item[f] = DTYPES[i].bytes;
        for (uint32_t d = 0; d < shape->via.array.size; d++)
            if (shape->via.array.ptr[d].type == MSGPACK_OBJECT_NIL) ragged[f] = 1;
            else item[f] *= shape->via.array.ptr[d].via.u64;
    }
}

static uint32_t turn(const uint64_t *positions) { /* section 6: whose record is the next in stream order */
    uint32_t least = 0;
    for (uint32_t p = 1; p < partitions; p++) if (positions[p] / stripe < positions[least] / stripe) least = p;
    return least;
}

static void positions(msgpack_packer *to, const char *key, const uint64_t *of) {
    text(to, key), msgpack_pack_array(to, partitions);
    for (uint32_t p = 0; p < partitions; p++)
        msgpack_pack_array(to, 2), msgpack_pack_uint64(to, p), msgpack_pack_uint64(to, of[p]);
}

static void say(const char *type, uint64_t request) {
    msgpack_sbuffer header;
    msgpack_packer to;
    if (!strcmp(type, "describe"))
        begin(&to, &header, type, 2), number(&to, "request", request), text(&to, "split"), text(&to, "");
    else if (!strcmp(type, "bye")) begin(&to, &header, type, 1), number(&to, "session", session);
    else if (!strcmp(type, "credit")) { /* section 7: two stripes of each partition are a window */
        uint64_t until[PARTITIONS];
        memcpy(until, received, sizeof until);
        for (uint32_t more = 0, p; more < 2 * partitions; more++)
            p = turn(until), until[p] = (until[p] / stripe + 1) * stripe;
        begin(&to, &header, type, 4), number(&to, "session", session), positions(&to, "until", until);
        text(&to, "trained"), msgpack_pack_array(&to, 0), text(&to, "durable"), msgpack_pack_false(&to);
    } else {
        begin(&to, &header, type, 8), number(&to, "session", session = drawn()), positions(&to, "positions", received);
        text(&to, "split"), text(&to, ""), text(&to, "group"), msgpack_pack_nil(&to);
        text(&to, "durable"), msgpack_pack_false(&to);
        text(&to, "incarnation"), msgpack_pack_nil(&to), text(&to, "committed"), msgpack_pack_nil(&to);
        text(&to, "trained"), msgpack_pack_array(&to, 0);
    }
    send_frame(dealer, &header, 0);
}

/* Whether each of the positions was received; `set` makes it so. */
static int reached(const msgpack_object *pairs, int set) {
    int all = 1;
    for (uint32_t i = 0; i < pairs->via.array.size; i++) {
        const msgpack_object *pair = pairs->via.array.ptr[i].via.array.ptr;
        if (set) received[pair[0].via.u64] = pair[1].via.u64;
        all &= received[pair[0].via.u64] >= pair[1].via.u64;
    }
    return all;
}

static void show(uint64_t partition, uint64_t offset, uint64_t count, zmq_msg_t *frames) { /* section 5 */
    size_t at[FIELDS] = {0};
    for (uint64_t row = 0; row < count; row++) {
        int fresh = offset + row >= received[partition];
        if (fresh) printf("%llu %llu", (unsigned long long)partition, (unsigned long long)(offset + row));
        for (uint32_t f = 0, frame = 0; f < fields; f++, frame++) {
            uint32_t length = 1;
            if (ragged[f]) memcpy(&length, (char *)zmq_msg_data(&frames[frame++]) + 4 * row, 4);
            const unsigned char *bytes = (unsigned char *)zmq_msg_data(&frames[frame]) + at[f];
            at[f] += length * item[f];
            if (fresh) printf(" %s=", names[f]);
            for (size_t i = 0; fresh && i < length * item[f]; i++) printf("%02x", bytes[i]);
        }
        if (fresh) printf("\n");
    }
    if (offset + count > received[partition]) received[partition] = offset + count;
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: read URL\n"), 2;
    dealer = connected(arguments[1]);
    double heard = 0;
    for (int welcome = 0, ended = 0; !ended;) {
        zmq_msg_t frames[2 * FIELDS + 1];
        msgpack_unpacked message;
        int more = 1, got = 0;
        if (now_s() - heard > (welcome ? 4 : 1))
            welcome = 0, heard = now_s(), say(stripe ? "subscribe" : "describe", drawn());
        zmq_pollitem_t item = {dealer, 0, ZMQ_POLLIN, 0};
        if (!zmq_poll(&item, 1, 500)) { if (welcome) say("credit", 0); continue; }
        for (; more; more = zmq_msg_more(&frames[got++]))
            zmq_msg_init(&frames[got]), zmq_msg_recv(&frames[got], dealer, 0);
        msgpack_unpacked_init(&message);
        msgpack_unpack_next(&message, zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0]), NULL);
        const msgpack_object *said = &message.data, *type = get(said, "type");
        uint64_t p = get_number(said, "partition"), offset = get_number(said, "offset");
        if (is(type, "description") && !stripe)
            describe(get(said, "info")), reached(get(said, "log_start"), 1), say("subscribe", 0);
        else if (session && get_number(said, "session") == session) {
            int lost = (is(type, "chunk") && (offset > received[p] || p != turn(received)))
                       || (is(type, "status") && !reached(get(said, "next"), 0)) || is(get(said, "code"), "no_session");
            heard = now_s();
            if (welcome && lost) welcome = 0, say("subscribe", 0);
            else if (is(type, "refusal")) fail(said);
            else if (is(type, "welcome")) welcome = 1;
            else if (is(type, "chunk") && welcome) show(p, offset, get_number(said, "count"), frames + 1);
            else if (is(type, "end")) ended = reached(get(said, "final"), 0);
            if (welcome) say(ended ? "bye" : "credit", 0);
        }
        msgpack_unpacked_destroy(&message);
        while (got) zmq_msg_close(&frames[--got]);
    }
    return zmq_close(dealer);
}
