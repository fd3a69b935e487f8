"""An estimate of what a server costs, from the public price list; never a reason to fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from builder.aws.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.aws.api import Api

HOURS: Final = 730  # a month, as AWS counts


def query(kind: str, region: str) -> dict[str, Any]:
    """What finds the on-demand price of a Linux server."""
    wanted = {
        "instanceType": kind,
        "regionCode": region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    listed = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    return {"ServiceCode": "AmazonEC2", "Filters": listed, "MaxResults": 10}


def hourly(products: Iterable[str]) -> float | None:
    """Dollars an hour, from products as the API lists them, each a JSON text."""
    for product in products:
        for term in json.loads(product).get("terms", {}).get("OnDemand", {}).values():
            for dimension in term.get("priceDimensions", {}).values():
                price = float(dimension.get("pricePerUnit", {}).get("USD", 0))
                if price and dimension.get("unit") == "Hrs":
                    return price
    return None


def estimate(door: Api, kind: str) -> float | None:
    """Dollars an hour, or None when the price list has nothing to say."""
    try:
        return hourly(door.call("GetProducts", **query(kind, door.region))["PriceList"])
    except (AwsError, KeyError, TypeError, ValueError):
        return None


def line(price: float, count: int) -> str:
    """For a person."""
    times = f" x {count}" if count > 1 else ""
    month = price * count * HOURS
    return f"about ${price:.4f} an hour{times}, ${month:.2f} a month, on demand; disk, address and traffic come on top"
