"""Class names of two kinds: ImageNet's short ones, and a hundred cars, whose names are long.

What the text path costs depends on how long names are. ImageNet's come from open_clip. The cars were written for this
benchmark in the form of StanfordCars' split file, year first, and are as long: 8.5 tokens on average, from 7 to 14.
"""

from __future__ import annotations

from bench.api import Classes

CARS = """
2012 Toyota Matrix Hatchback | 2011 Toyota Prius Hatchback | 2010 Toyota Yaris Hatchback | 2012 Toyota Avalon Sedan
2009 Toyota Venza SUV | 2012 Toyota RAV4 SUV | 2007 Toyota FJ Cruiser SUV | 2012 Honda Civic Coupe
2009 Honda Element SUV | 2012 Honda Pilot SUV | 2008 Honda S2000 Convertible | 2011 Honda CR-Z Hatchback
2012 Mazda 3 Sedan | 2011 Infiniti FX35 SUV | 2010 Mazda 6 Sedan | 2009 Mazda RX-8 Coupe | 2012 Mazda CX-7 SUV
2011 Mazda MX-5 Miata Convertible | 2012 Subaru Legacy Sedan | 2010 Subaru Outback Wagon | 2011 Subaru Forester SUV
2012 Subaru WRX STI Hatchback | 2012 Nissan Altima Coupe | 2012 Nissan Maxima Sedan | 2010 Nissan Cube Wagon
2011 Nissan Rogue SUV | 2012 Nissan GT-R Coupe | 2009 Nissan 370Z Roadster Convertible | 2012 Kia Rio Sedan
2011 Kia Forte Coupe | 2012 Kia Soul Wagon | 2010 Kia Sedona Minivan | 2012 Hyundai Equus Sedan
2012 Hyundai Genesis Coupe | 2010 Hyundai Entourage Minivan | 2012 Volkswagen Passat Sedan
2011 Volkswagen Touareg SUV | 2010 Volkswagen Eos Convertible | 2012 Volkswagen Jetta GLI Sedan
2004 Volkswagen Phaeton W12 Sedan | 2012 Audi A4 Sedan | 2012 Audi A7 Hatchback | 2011 Audi Q7 SUV
2009 Audi A3 Cabriolet | 2012 Audi RS 5 Coupe | 2012 BMW 7 Series Sedan | 2010 BMW Z3 Coupe
2011 BMW X1 SUV | 2012 BMW 5 Series Gran Turismo Hatchback | 2008 BMW Alpina B7 Sedan
2012 Mercedes-Benz GLK-Class SUV | 2011 Mercedes-Benz SLK-Class Convertible | 2012 Mercedes-Benz CLS-Class Sedan
2010 Porsche Cayenne SUV | 2012 Porsche Boxster Convertible | 2006 Porsche Carrera GT Coupe | 2012 Volvo S60 Sedan
2011 Volvo C70 Convertible | 2010 Volvo V50 Wagon | 2008 Saab 9-3 Convertible | 2012 Saab 9-5 Sedan
2012 Jaguar XF Sedan | 2009 Jaguar XJ8 Sedan | 2012 Land Rover Evoque Coupe | 2011 Land Rover Discovery SUV
2012 MINI Countryman SUV | 2005 Lotus Elise Convertible | 2012 Lotus Evora Coupe | 2010 Maserati Quattroporte Sedan
2012 Maserati GranCabrio Convertible | 2005 Ferrari F430 Spider Convertible | 2011 Ferrari 599 GTO Coupe
2009 Lamborghini Murcielago LP 640 Coupe | 2012 McLaren 12C Spider Convertible | 2010 Alfa Romeo Giulietta Hatchback
2012 Ford Taurus Sedan | 2011 Ford Flex SUV | 2010 Ford Explorer Sport Trac SUV | 2012 Ford Mustang Boss 302 Coupe
2009 Ford Crown Victoria Sedan | 2012 Ford F-350 Super Duty Crew Cab | 2011 Lincoln Navigator SUV
2008 Mercury Mariner SUV | 2012 Chevrolet Cruze Sedan | 2011 Chevrolet Volt Sedan | 2009 Chevrolet Equinox SUV
2012 Chevrolet Silverado 3500 Crew Cab | 2012 Chevrolet Suburban SUV | 2010 Cadillac DTS Sedan
2011 Cadillac STS Sedan | 2012 Buick LaCrosse Sedan | 2008 Buick Lucerne Sedan | 2009 Pontiac Solstice Convertible
2007 Pontiac Vibe Wagon | 2012 GMC Sierra 2500 Crew Cab | 2010 GMC Envoy SUV | 2012 Dodge Avenger Sedan
2011 Dodge Viper SRT-10 ACR Coupe | 2008 Dodge Grand Caravan Cargo Van | 2012 Jeep Renegade Sport Utility SUV
"""


def imagenet(k: int) -> Classes:
    """k of ImageNet's 1000 names, evenly spread over its list."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return _classes([IMAGENET_CLASSNAMES[i * 1000 // k] for i in range(k)])


def cars(k: int) -> Classes:
    """The first k of the hundred cars."""
    return _classes([name.strip() for name in CARS.replace("\n", "|").split("|") if name.strip()][:k])


def _classes(names: list[str]) -> Classes:
    return Classes(tuple(names), ("a photo of a {}.",), tuple(range(len(names))))
