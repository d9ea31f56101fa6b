/* What push.c and read.c share: messages of headrace (protocol/SPEC.md, section 1) with msgpack-c and libzmq. */
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t drawn(void) { /* a random number, for a session or a request */
    static int seeded;
    if (!seeded++) srand((unsigned)time(NULL) ^ (unsigned)(now_s() * 1e6));
    return (uint64_t)rand() << 31 | rand();
}

static void text(msgpack_packer *to, const char *value) { msgpack_pack_str_with_body(to, value, strlen(value)); }

static void number(msgpack_packer *to, const char *key, uint64_t value) {
    text(to, key), msgpack_pack_uint64(to, value);
}

/* A header whose map has `fields` entries beside `v` and `type`; the caller packs them. */
static void begin(msgpack_packer *to, msgpack_sbuffer *header, const char *type, int fields) {
    msgpack_sbuffer_init(header);
    msgpack_packer_init(to, header, msgpack_sbuffer_write);
    msgpack_pack_map(to, 2 + fields);
    number(to, "v", 1), text(to, "type"), text(to, type);
}

static void send_frame(void *dealer, msgpack_sbuffer *frame, int more) {
    zmq_send(dealer, frame->data, frame->size, more ? ZMQ_SNDMORE : 0);
    msgpack_sbuffer_destroy(frame);
}

static int is(const msgpack_object *word, const char *value) {
    return word->type == MSGPACK_OBJECT_STR && word->via.str.size == strlen(value)
           && !memcmp(word->via.str.ptr, value, strlen(value));
}

/* The value of a key; nil where there is none. */
static const msgpack_object *get(const msgpack_object *map, const char *key) {
    static const msgpack_object nil;
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (is(&map->via.map.ptr[i].key, key)) return &map->via.map.ptr[i].val;
    return &nil;
}

static uint64_t get_number(const msgpack_object *map, const char *key) {
    const msgpack_object *value = get(map, key);
    return value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

static void fail(const msgpack_object *refusal) {
    const msgpack_object *why = get(refusal, "text");
    fprintf(stderr, "refused: %.*s\n", (int)why->via.str.size, why->via.str.ptr);
    exit(1);
}

static void *connected(const char *url) {
    void *dealer = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    if (zmq_connect(dealer, url)) fprintf(stderr, "cannot connect to %s: %s\n", url, zmq_strerror(errno)), exit(2);
    return dealer;
}
