"""What every store must do, as checks that any test runner can run.

    @pytest.mark.parametrize("check", CHECKS, ids=check_name)
    async def test_my_store_conforms(check, my_store): ...
        await check(StoreUnderTest(logs=..., catalog=..., seed=..., again=..., shelf=...))

Every check is an async function that takes an empty store and raises `AssertionError` where the store is at fault.
`FILE_CHECKS` hold for stores that keep Codex' files in a home.
"""

from __future__ import annotations

from clew.testing import catalog_checks, list_checks, log_checks
from clew.testing.store_bench import Check, Seed, StoreUnderTest, check_name

__all__ = ["CHECKS", "FILE_CHECKS", "Check", "Seed", "StoreUnderTest", "check_name"]

CHECKS: tuple[Check, ...] = (
    log_checks.a_thread_appears_with_its_first_append,
    log_checks.a_lease_without_an_append_leaves_nothing,
    log_checks.what_was_appended_comes_back_in_order,
    log_checks.paginated_lines_are_numbered_without_a_gap,
    log_checks.appends_of_one_lease_keep_their_order,
    log_checks.a_payload_that_is_no_json_costs_nothing_else,
    log_checks.an_unknown_thread_is_leased_only_to_create_it,
    log_checks.a_lease_is_exclusive_and_names_its_owner,
    log_checks.threads_are_leased_independently,
    log_checks.a_held_thread_is_waited_for,
    log_checks.a_lease_is_given_back_whatever_happens,
    log_checks.a_lease_that_is_over_writes_nothing,
    log_checks.another_hand_between_two_leases_is_seen,
    log_checks.an_unknown_history_mode_is_refused,
    log_checks.threads_of_every_era_are_continued,
    log_checks.a_torn_line_stays_and_costs_only_itself,
    log_checks.reading_both_ways_gives_the_same,
    catalog_checks.a_fork_has_the_history_of_its_source,
    catalog_checks.a_fork_ends_where_it_is_asked_to,
    catalog_checks.a_fork_of_a_turn_that_is_not_there_is_refused,
    catalog_checks.a_fork_closes_the_turn_it_cuts,
    catalog_checks.forks_are_forked,
    catalog_checks.a_reverted_thread_is_forked_as_it_is_now,
    catalog_checks.archived_and_compressed_threads_are_forked,
    catalog_checks.an_archived_thread_is_put_away_whole,
    catalog_checks.a_thread_that_is_written_is_not_moved,
    catalog_checks.those_whom_a_thread_spawned_are_its_descendants,
    catalog_checks.those_who_inherit_from_a_thread_are_its_heirs,
    catalog_checks.a_name_is_given_changed_and_taken_away,
    catalog_checks.a_thread_is_found_by_whatever_names_it,
    catalog_checks.a_summary_tells_what_the_thread_says,
    catalog_checks.a_list_is_filtered,
    catalog_checks.pages_are_whole_and_without_doubles_while_threads_appear,
    list_checks.a_list_tells_providers_models_and_repositories,
    list_checks.a_list_knows_who_spawned_whom,
    list_checks.a_list_shows_what_was_put_on_threads,
    list_checks.a_title_is_the_name_before_what_was_said,
    list_checks.a_list_has_every_order,
    list_checks.a_name_moves_no_thread_but_in_the_order_of_names,
    list_checks.a_page_goes_on_where_the_last_one_ended,
    list_checks.a_cursor_belongs_to_its_order,
    list_checks.a_thread_taken_back_keeps_its_beginning,
    catalog_checks.a_search_finds_what_was_said,
    catalog_checks.a_search_is_narrowed_and_comes_in_pages,
    catalog_checks.places_in_a_thread_are_found_in_their_order,
    catalog_checks.what_cannot_be_read_is_listed_with_its_error,
)
"""For every store."""

FILE_CHECKS: tuple[Check, ...] = (
    log_checks.files_lie_where_codex_looks_for_them,
    log_checks.a_lease_unpacks_a_compressed_thread,
    log_checks.earlier_bytes_never_change,
)
"""For stores that keep Codex' files (`home` given)."""
