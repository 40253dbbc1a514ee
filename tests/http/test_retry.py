"""The budget of retries that a client's calls share."""

from __future__ import annotations

from np6_async._http.retry import RetryBudget

from np6_async import RetryPolicy


class TestBudget:
    def test_it_ends(self) -> None:
        """100 retries, then none."""
        budget = RetryBudget(RetryPolicy())
        assert [budget.spend() for _ in range(101)] == [True] * 100 + [False]

    def test_ten_successes_earn_a_retry(self) -> None:
        """A success gives a tenth back, and never more than the budget."""
        budget = RetryBudget(RetryPolicy(budget=1, refund=0.125))
        for _ in range(1000):
            budget.succeed()
        assert [budget.spend(), budget.spend()] == [True, False]
        for _ in range(7):
            budget.succeed()
        assert not budget.spend()
        budget.succeed()
        assert budget.spend()

    def test_idle_connections_that_were_closed_cost_nothing_while_the_server_responds(self) -> None:
        """One for each success, and a thousand at most: in an outage they are failures like others."""
        budget = RetryBudget(RetryPolicy())
        assert not budget.forgive()
        for _ in range(3):
            budget.succeed()
        assert [budget.forgive() for _ in range(4)] == [True] * 3 + [False]
        for _ in range(5_000):
            budget.succeed()
        assert sum(budget.forgive() for _ in range(5_000)) == 1_000

    def test_a_budget_of_zero_allows_no_retry(self) -> None:
        """budget=0."""
        assert not RetryBudget(RetryPolicy(budget=0)).spend()
