"""Types that Spark does not hand to a data source as values, found in a schema before a task starts."""

from pyspark.sql import types as T

# The type's name in PySpark, what people call it, and what to select instead; a type this PySpark does not have is no matter.
REFUSED = [
    ("YearMonthIntervalType", "a year-month interval", "cast({0} as string)"),
    ("CalendarIntervalType", "a calendar interval", "cast({0} as string)"),
    ("VariantType", "a variant", "to_json({0})"),
    ("GeometryType", "a geometry", "st_asbinary({0})"),
    ("GeographyType", "a geography", "st_asbinary({0})"),
    ("UserDefinedType", "of a user-defined type", "the values within it"),
]


def refuse(schema):
    """Raises for the first column, or field within one, of a type that does not arrive as it is."""
    for field in schema.fields:
        for part in inside(field.dataType):
            for name, what, instead in REFUSED:
                kind = getattr(T, name, None)
                if kind is not None and isinstance(part, kind):
                    whole = "is" if part is field.dataType else "holds"
                    raise ValueError(
                        f"[E203] column `{field.name}` {whole} {what}, which Spark does not hand to a data source as it is\n"
                        f"  help: select {instead.format('`' + field.name + '`')} instead"
                    )


def inside(data_type):
    """A type and all types within it."""
    yield data_type
    if isinstance(data_type, T.StructType):
        for field in data_type.fields:
            yield from inside(field.dataType)
    elif isinstance(data_type, T.ArrayType):
        yield from inside(data_type.elementType)
    elif isinstance(data_type, T.MapType):
        yield from inside(data_type.keyType)
        yield from inside(data_type.valueType)
