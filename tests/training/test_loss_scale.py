from training.loss_scale import FIRST, GROWS_AFTER, LossScale


def test_formats_with_the_range_of_float32_need_no_scale() -> None:
    scale = LossScale(needed=False)
    assert scale.value == 1
    assert not scale.lower()
    for _ in range(GROWS_AFTER):
        scale.count_step()
    assert scale.value == 1


def test_an_overflow_halves_the_scale_until_it_is_one() -> None:
    scale = LossScale(needed=True)
    assert scale.lower()
    assert scale.value == FIRST / 2
    while scale.lower():
        pass
    assert scale.value == 1


def test_many_good_steps_in_a_row_double_the_scale() -> None:
    scale = LossScale(needed=True)
    for _ in range(GROWS_AFTER - 1):
        scale.count_step()
    scale.lower()  # they begin from zero
    for _ in range(GROWS_AFTER - 1):
        scale.count_step()
    assert scale.value == FIRST / 2
    scale.count_step()
    assert scale.value == FIRST


def test_a_run_that_moves_to_a_device_that_needs_a_scale_begins_with_the_first() -> None:
    scale = LossScale(needed=True)
    scale.restore(LossScale(needed=False).state())
    assert scale.state() == LossScale(needed=True).state()


def test_a_restored_scale_goes_on() -> None:
    scale, resumed = LossScale(needed=True), LossScale(needed=True)
    scale.lower()
    for _ in range(3):
        scale.count_step()
    resumed.restore(scale.state())
    assert resumed.state() == scale.state() == {"value": FIRST / 2, "good_steps": 3}
