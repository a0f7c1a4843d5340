"""From harness results to tables, figures, comparisons and leaderboard files."""
