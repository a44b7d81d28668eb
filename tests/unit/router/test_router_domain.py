import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raa_router.adapters.model_file import read_models
from raa_router.adapters.price_list import PriceList, ProviderPrices, priced, shipped_prices
from raa_router.app import configured
from raa_router.domain.catalogue import ModelSpec, UnknownModelError, catalogue_of, choose_model
from raa_router.domain.money import FREE, Price, cost_of, worst_case
from raa_router.domain.tolerate import UnusableAnswerError, content_of, json_in, tokens_of, without_thoughts
from raa_router.settings import RouterSettings
from raa_runtime.errors import Misconfigured

LARGE = ModelSpec(name="big", base_url="http://h/v1", tier="large", fallbacks=("little",))
SMALL = ModelSpec(name="little", base_url="http://h/v1", tier="small")
PIECES = st.sampled_from(["<think>", "</think>", "```json\n", "```", "{", "}", '{"a": 1}', "x"])
TEXT = st.text(max_size=60) | st.lists(PIECES, max_size=8).map("".join)


def said(**message: object) -> dict[str, object]:
    return {"choices": [{"message": {"role": "assistant", **message}}]}


def names(asked: str) -> list[str]:
    return [spec.name for spec in choose_model(catalogue_of([LARGE, SMALL]), asked)]


def test_a_model_is_chosen_by_name_default_or_tier_and_followed_by_its_fallbacks() -> None:
    assert names("default") == ["big", "little"]
    assert names("little") == ["little"]
    assert names("large") == ["big", "little"]
    assert names("small") == ["little"]
    assert names("offline") == ["offline"]


def test_without_any_configuration_the_default_is_the_offline_model() -> None:
    assert [spec.name for spec in choose_model(catalogue_of([]), "default")] == ["offline"]


def test_unknown_models_are_named_with_those_there_are() -> None:
    with pytest.raises(UnknownModelError, match="'huge'; configured are big, little, offline"):
        choose_model(catalogue_of([LARGE, SMALL]), "huge")
    with pytest.raises(UnknownModelError, match="tier medium"):
        choose_model(catalogue_of([LARGE, SMALL]), "medium")
    with pytest.raises(UnknownModelError, match="'absent'"):
        catalogue_of([SMALL], "absent")


def test_an_endpoint_from_the_environment_is_the_default_and_takes_any_model_name() -> None:
    settings = RouterSettings.from_env({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "sk-x"})
    catalogue = configured(settings)
    assert catalogue.default == "openai"
    (chosen,) = choose_model(catalogue, "some-model")
    assert (chosen.name, chosen.endpoint.model, chosen.endpoint.base_url) == (
        "some-model", "some-model", "http://127.0.0.1:1/v1",
    )  # fmt: skip


def test_a_key_alone_does_not_make_an_endpoint_the_default() -> None:
    assert configured(RouterSettings.from_env({"OPENAI_API_KEY": "sk-x"})).default == "offline"


def test_settings_of_ours_win_over_those_other_clients_read() -> None:
    settings = RouterSettings.from_env({"OPENAI_BASE_URL": "http://a/v1"}, openai_base_url="http://b/v1")
    assert settings.openai_base_url == "http://b/v1"


def test_secrets_are_in_no_dump_and_no_representation() -> None:
    settings = RouterSettings.from_env({"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": "http://a/v1"})
    catalogue = configured(settings)
    for shown in (repr(settings), settings.model_dump_json(), repr(catalogue), repr(catalogue.find("openai").endpoint)):
        assert "sk-secret" not in shown


def test_models_are_read_from_a_file_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text(json.dumps([{"name": "b", "base_url": "http://h/v1"}, {"name": "a", "api_key": "sk-1"}]))
    assert [spec.name for spec in read_models(path)] == ["b", "a"]
    path.write_text('[{"nome": "b"}]')
    with pytest.raises(Misconfigured, match=r"0\.nome|0\.name"):
        read_models(path)
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_models(tmp_path / "absent.json")


def test_cost_is_rounded_up_and_never_zero_without_a_price() -> None:
    price = Price(input_microusd=150_000, output_microusd=600_000)
    assert cost_of(price, 1_000, 500) == 450
    assert cost_of(price, 1, 0) == 1
    assert cost_of(FREE, 1_000, 500) == 0
    assert cost_of(None, 1_000, 500) is None
    assert worst_case(None, [], 10) is None


@given(st.text(max_size=200), st.integers(0, 5_000))
def test_no_tokenizer_can_make_a_call_cost_more_than_was_reserved(text: str, output: int) -> None:
    price = Price(input_microusd=3_000_000, output_microusd=15_000_000)
    reserved = worst_case(price, [{"role": "user", "content": text}], output)
    spent = cost_of(price, len(text.encode("utf-8", "surrogatepass")), output)
    assert reserved is not None
    assert spent is not None
    assert spent <= reserved


def test_the_shipped_prices_are_a_dated_list() -> None:
    assert shipped_prices().as_of


def test_list_prices_count_only_at_the_provider_they_were_published_for() -> None:
    name, price = "some-model", Price(input_microusd=1, output_microusd=2)
    provider = ProviderPrices(provider="some", host="api.example", models={name: price})
    prices = PriceList(as_of="2026-01-01", note="made up for this test", providers=[provider])
    there = ModelSpec(name=name, base_url=f"https://{prices.providers[0].host}/v1")
    assert priced(there, prices).price == prices.providers[0].models[name]
    assert priced(there.model_copy(update={"base_url": "http://127.0.0.1/v1"}), prices).price is None
    through = ModelSpec(name="x", protocol="litellm", model=f"{prices.providers[0].provider}/{name}")
    assert priced(through, prices).price == prices.providers[0].models[name]
    own = there.model_copy(update={"price": FREE})
    assert priced(own, prices).price == FREE


PLAN = '{"steps": [], "result": 1}'


@pytest.mark.parametrize(
    "text",
    [
        PLAN,
        f"```json\n{PLAN}\n```",
        f"Here is the plan:\n\n```\n{PLAN}\n```\nI hope it helps {{really}}.",
        f'<think>maybe {{"steps": 1}} or not</think>\n{PLAN}',
        f'the template ate the tag {{"cannot": 1}} </think>{PLAN}',
        f"<thinking>a</thinking><think>b</think> Sure! {PLAN} Done.",
        f"A set {{1, 2}} is no JSON, but this is: {PLAN}",
    ],
)
def test_json_is_found_in_whatever_stands_around_it(text: str) -> None:
    assert content_of(said(content=text), wants_json=True) == PLAN


def test_tool_calls_and_parts_stand_for_missing_content() -> None:
    call = {"type": "function", "function": {"name": "plan", "arguments": PLAN}}
    assert content_of(said(content=None, tool_calls=[call]), wants_json=True) == PLAN
    assert content_of(said(content="", function_call={"arguments": {"steps": []}}), wants_json=True) == '{"steps": []}'
    assert content_of(said(content=[{"type": "text", "text": PLAN}]), wants_json=True) == PLAN
    assert content_of({"choices": [{"text": "plain"}]}, wants_json=False) == "plain"


@pytest.mark.parametrize(
    "completion",
    [{}, [], None, {"choices": []}, {"choices": [None]}, said(content=""), said(content="<think>never ended"), said(),
     {"error": "busy"}, said(content="x" * 300_000)],
)  # fmt: skip
def test_an_answer_without_content_is_unusable(completion: object) -> None:
    with pytest.raises(UnusableAnswerError):
        content_of(completion, wants_json=True)


def test_prose_stays_prose_where_no_json_is_wanted() -> None:
    assert content_of(said(content='the object {"a": 1} in words'), wants_json=False) == 'the object {"a": 1} in words'


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 1}, {"prompt_tokens": -1, "completion_tokens": 1},
                                   {"prompt_tokens": True, "completion_tokens": 1}])  # fmt: skip
def test_tokens_that_are_not_told_are_unknown(usage: object) -> None:
    assert tokens_of({"usage": usage}) is None
    assert tokens_of({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}) == (3, 4)


@given(TEXT)
def test_tolerating_never_fails_and_finds_only_json(text: str) -> None:
    without_thoughts(text)
    found = json_in(text)
    if found is not None:
        assert isinstance(json.loads(found), dict)
        assert found in text
