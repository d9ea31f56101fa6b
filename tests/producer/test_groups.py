import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.groups import MAX_GROUP_POSITIONS, Groups
from protocol.codec import MAX_GROUPS
from protocol.dealing import Positions
from protocol.errors import OutOfRange
from protocol.messages import GroupState


@pytest.fixture
def groups() -> Groups:
    return Groups(2, time_to_live_s=600.0)


def join(
    groups: Groups, name: str, trained: Positions, committed: Positions | None = None, *, durable: bool = False
) -> None:
    groups.join(name, durable=durable, trained=trained, committed=committed, now_s=0.0)


def state(groups: Groups, name: str) -> GroupState:
    return next(each for each in groups.states({}, 0.0) if each.name == name)


def test_without_groups_nothing_is_released(groups: Groups) -> None:
    assert groups.floor() is None


def test_a_group_that_never_saves_releases_what_it_has_trained(groups: Groups) -> None:
    join(groups, "run", {0: 5, 1: 6})
    assert groups.floor() == {0: 5, 1: 6}
    groups.heard("run", {0: 9}, durable=False, now_s=1.0)
    assert groups.floor() == {0: 9, 1: 6}


def test_a_durable_group_pins_the_log_at_what_it_has_committed(groups: Groups) -> None:
    join(groups, "run", {0: 5, 1: 6})
    groups.heard("run", {0: 9, 1: 9}, durable=True, now_s=1.0)
    assert groups.floor() == {0: 5, 1: 6}
    groups.commit("run", {0: 7, 1: 8}, 2.0)
    groups.heard("run", {0: 50, 1: 50}, durable=False, now_s=3.0)  # an old message that arrives late
    assert groups.floor() == {0: 7, 1: 8}


def test_what_was_committed_never_goes_back(groups: Groups) -> None:
    groups.commit("run", {0: 7, 1: 8}, 0.0)
    groups.commit("run", {0: 3, 1: 9}, 0.0)
    join(groups, "run", {0: 0, 1: 0}, committed={0: 2, 1: 2}, durable=True)
    assert state(groups, "run").committed == {0: 7, 1: 9}


def test_a_commit_says_what_was_trained_too(groups: Groups) -> None:
    groups.commit("run", {0: 7, 1: 8}, 0.0)
    assert state(groups, "run").trained == {0: 7, 1: 8}


def test_the_partitions_of_readers_that_have_not_come_yet_are_kept(groups: Groups) -> None:
    join(groups, "run", {1: 6})
    assert groups.floor() == {0: 0, 1: 6}


def test_the_slowest_group_decides_partition_by_partition(groups: Groups) -> None:
    join(groups, "fast", {0: 90, 1: 10})
    join(groups, "slow", {0: 20, 1: 80})
    assert groups.floor() == {0: 20, 1: 10}
    assert groups.drop("slow")
    assert groups.floor() == {0: 90, 1: 10}
    assert not groups.drop("slow")


def test_a_subscription_after_a_restart_brings_back_what_was_committed(groups: Groups) -> None:
    join(groups, "run", {0: 50}, committed={0: 30}, durable=True)
    join(groups, "run", {1: 60}, committed={1: 40}, durable=True)
    assert groups.floor() == {0: 30, 1: 40}


def test_a_durable_group_of_which_no_commit_is_known_holds_everything(groups: Groups) -> None:
    join(groups, "run", {0: 50, 1: 60}, durable=True)
    assert groups.floor() == {0: 0, 1: 0}
    groups.commit("run", {0: 40, 1: 40}, 0.0)
    assert groups.floor() == {0: 40, 1: 40}


def test_a_group_that_reads_anew_from_an_earlier_position_holds_that(groups: Groups) -> None:
    join(groups, "run", {0: 50, 1: 60})
    join(groups, "run", {0: 10, 1: 60})
    assert groups.floor() == {0: 10, 1: 60}


def test_a_silent_group_that_never_saved_expires_and_others_do_not(groups: Groups) -> None:
    join(groups, "silent", {0: 1, 1: 1})
    join(groups, "saved", {0: 2, 1: 2}, durable=True)
    join(groups, "alive", {0: 3, 1: 3})
    groups.heard("alive", {}, durable=False, now_s=500.0)
    assert groups.expire(600.0) == []
    assert groups.expire(600.1) == ["silent"]
    assert groups.expire(1100.1) == ["alive"]
    assert [each.name for each in groups.states({}, 1e9)] == ["saved"]


def test_a_group_that_was_dropped_is_not_brought_back_by_a_sign_of_life(groups: Groups) -> None:
    join(groups, "run", {0: 1, 1: 1})
    groups.drop("run")
    groups.heard("run", {0: 2}, durable=True, now_s=1.0)
    assert len(groups) == 0


def test_the_states_tell_people_all_there_is(groups: Groups) -> None:
    groups.join("run", durable=False, trained={0: 1, 1: 2}, committed=None, now_s=10.0)
    groups.heard("run", {0: 5}, durable=True, now_s=20.0)
    assert groups.states({"run": 3, "other": 1}, 25.0) == (
        GroupState(name="run", durable=True, readers=3, silent_s=5.0, committed={0: 1, 1: 2}, trained={0: 5, 1: 2}),
    )


@pytest.mark.parametrize("name", ["", "x" * 129])
def test_a_name_has_1_to_128_characters(groups: Groups, name: str) -> None:
    with pytest.raises(OutOfRange, match="1 to 128 characters"):
        join(groups, name, {0: 0})
    with pytest.raises(OutOfRange, match="1 to 128 characters"):
        groups.commit(name, {0: 0}, 0.0)


@pytest.mark.parametrize(("partitions", "most"), [(1, MAX_GROUPS), (4096, MAX_GROUP_POSITIONS // 4096)])
def test_there_are_only_as_many_as_a_description_can_name(partitions: int, most: int) -> None:
    groups = Groups(partitions, 600.0)
    for number in range(most):
        join(groups, str(number), {0: 0})
    with pytest.raises(OutOfRange, match=f"{most} groups are known already"):
        join(groups, "one more", {0: 0})
    with pytest.raises(OutOfRange, match=f"{most} groups are known already"):
        groups.commit("one more", {0: 0}, 0.0)
    join(groups, "0", {0: 5})
    groups.drop("0")
    join(groups, "one more", {0: 0})


@given(st.data())
def test_no_run_ever_misses_what_it_may_come_back_to(data: st.DataObject) -> None:
    """Runs read, save, commit and die in any order; what each would read next is never released."""
    groups = Groups(1, 600.0)
    trained, saved = {"a": 0, "b": 0}, dict[str, int]()
    for name in trained:
        join(groups, name, {0: 0})
    for _ in range(data.draw(st.integers(0, 30))):
        name = data.draw(st.sampled_from(sorted(trained)))
        match data.draw(st.sampled_from(["train", "save", "commit", "die"])):
            case "train":
                trained[name] += data.draw(st.integers(0, 9))
                groups.heard(name, {0: trained[name]}, durable=name in saved, now_s=0.0)
            case "save":
                saved[name] = trained[name]
            case "commit" if name in saved:
                groups.commit(name, {0: saved[name]}, 0.0)
            case "die":
                trained[name] = saved.get(name, trained[name])
                join(groups, name, {0: trained[name]}, durable=name in saved)
        floor = groups.floor()
        assert floor is not None
        assert all(floor[0] <= saved.get(name, position) for name, position in trained.items())
