"""The tools every executor ships with."""

from raa_executor.tools.calculate import calculate
from raa_executor.tools.files import list_files, read_file, write_file
from raa_executor.tools.registry import ToolRegistry
from raa_executor.tools.table_profile import profile_table
from raa_executor.tools.table_query import query_table


def built_in_tools() -> ToolRegistry:
    """Return a new registry with the shipped tools."""
    return ToolRegistry([calculate, list_files, read_file, write_file, profile_table, query_table])
