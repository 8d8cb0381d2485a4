"""How long calls take: measured in a worker, doubted by the judge, told beside what is known."""
