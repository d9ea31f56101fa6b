/* Pushes the lines of standard input into an inlet (protocol/SPEC.md, section 12), each as a record {"line": bytes}.
 *
 *   cc -O2 -o push push.c -lzmq -lmsgpackc      (Debian: libzmq3-dev libmsgpack-dev)
 *   ./push tcp://127.0.0.1:5556 syslog < /var/log/syslog
 *
 * Started again with the same name and input it goes on where it was. Lines over 4095 bytes are divided. */
#include "wire.h"

enum { KEPT = 1 << 14, AT_ONCE = 200, LINE = 4096 };
static char kept[KEPT][LINE];              /* the lines that are not durable yet, each at its number modulo KEPT */
static uint64_t have, next;                /* lines read so far; the number that is to be sent next */
static uint64_t session, due, durable, until; /* as in the specification */
static int greeted, done;
static void *dealer;

static void hello(const char *writer) {
    msgpack_sbuffer header;
    msgpack_packer to;
    session = drawn(), greeted = 0;
    begin(&to, &header, "hello", 2), number(&to, "session", session), text(&to, "writer"), text(&to, writer);
    send_frame(dealer, &header, 0);
}

/* `count` lines from `first` on; none: that there are no more. */
static void say(uint64_t first, uint64_t count) {
    msgpack_sbuffer header, body;
    msgpack_packer to;
    begin(&to, &header, count ? "records" : "done", count ? 3 : 2);
    number(&to, "session", session), number(&to, "number", first);
    if (count) number(&to, "count", count);
    send_frame(dealer, &header, count > 0);
    if (!count) return;
    msgpack_sbuffer_init(&body), msgpack_packer_init(&to, &body, msgpack_sbuffer_write), msgpack_pack_array(&to, count);
    for (uint64_t n = first; n < first + count; n++) {
        msgpack_pack_map(&to, 1), text(&to, "line");
        msgpack_pack_bin_with_body(&to, kept[n % KEPT], strlen(kept[n % KEPT]));
    }
    send_frame(dealer, &body, 0);
}

static void hear(const msgpack_object *message, const char *writer) {
    if (is(get(message, "code"), "no_session")) return hello(writer);
    if (is(get(message, "code"), "gap")) { next = get_number(message, "end"); return; }
    if (is(get(message, "type"), "refusal") || get_number(message, "due") < durable) fail(message);
    due = get_number(message, "due"), durable = get_number(message, "durable"), until = get_number(message, "until");
    if (is(get(message, "type"), "greeting")) greeted = 1, next = due;
    done = get(message, "done")->via.boolean;
}

int main(int count, char **arguments) {
    if (count != 3) return fprintf(stderr, "usage: push URL NAME < FILE\n"), 2;
    const char *writer = arguments[2];
    dealer = connected(arguments[1]);
    double heard = now_s(), moved = heard;
    int ended = 0;
    for (hello(writer); !done;) {
        zmq_pollitem_t item = {dealer, 0, ZMQ_POLLIN, 0};
        zmq_msg_t frame;
        zmq_poll(&item, 1, greeted && !ended && have < until && have < durable + KEPT ? 0 : 50);
        while (zmq_msg_init(&frame), zmq_msg_recv(&frame, dealer, ZMQ_DONTWAIT) >= 0) {
            msgpack_unpacked message;
            uint64_t before = due;
            msgpack_unpacked_init(&message);
            msgpack_unpack_next(&message, zmq_msg_data(&frame), zmq_msg_size(&frame), NULL);
            uint64_t of = get_number(&message.data, "session");
            if (of == session || (of == 0 && is(get(&message.data, "type"), "refusal")))
                hear(&message.data, writer), heard = now_s();
            if (due != before) moved = heard;
            msgpack_unpacked_destroy(&message), zmq_msg_close(&frame);
        }
        if (now_s() - heard > (greeted ? 4 : 1)) hello(writer), heard = now_s();
        for (int read = 0; greeted && !ended && have < until && have < durable + KEPT && read < AT_ONCE; read++) {
            char *line = kept[have % KEPT];
            if (fgets(line, LINE, stdin)) line[strcspn(line, "\n")] = 0, have++;
            else ended = 1;
        }
        if (next > due && now_s() - moved > 1) next = due, moved = now_s(); /* some were lost: send again */
        for (uint64_t end = have < until ? have : until, some; greeted && next < end; next += some)
            say(next, some = end - next < AT_ONCE ? end - next : AT_ONCE);
        if (greeted && ended && due >= have) say(have, 0), zmq_poll(&item, 1, 100);
    }
    return printf("%llu records are durable\n", (unsigned long long)have), zmq_close(dealer);
}
