"""The facts: US states and countries with their capitals, under the most usual English names.

Left out: the country Georgia (the state has the name), countries that are one city (Monaco, San Marino, the Vatican).
London is told as the capital of England, and of the United Kingdom one way only: a reverse has one answer.
"""

STATES = dict(pair.split("/") for pair in """
Alabama/Montgomery Alaska/Juneau Arizona/Phoenix California/Sacramento Colorado/Denver Connecticut/Hartford
Delaware/Dover Florida/Tallahassee Georgia/Atlanta Hawaii/Honolulu Idaho/Boise Illinois/Springfield
Indiana/Indianapolis Kansas/Topeka Kentucky/Frankfort Maine/Augusta Maryland/Annapolis Massachusetts/Boston
Michigan/Lansing Mississippi/Jackson Montana/Helena Nebraska/Lincoln Ohio/Columbus Oregon/Salem
Pennsylvania/Harrisburg Tennessee/Nashville Texas/Austin Vermont/Montpelier Virginia/Richmond Washington/Olympia
Wisconsin/Madison Wyoming/Cheyenne""".split()) | {
    "Arkansas": "Little Rock", "Iowa": "Des Moines", "Louisiana": "Baton Rouge", "Minnesota": "Saint Paul",
    "Missouri": "Jefferson City", "Nevada": "Carson City", "New Hampshire": "Concord", "New Jersey": "Trenton",
    "New Mexico": "Santa Fe", "New York": "Albany", "North Carolina": "Raleigh", "North Dakota": "Bismarck",
    "Oklahoma": "Oklahoma City", "Rhode Island": "Providence", "South Carolina": "Columbia", "South Dakota": "Pierre",
    "Utah": "Salt Lake City", "West Virginia": "Charleston",
}

COUNTRIES = dict(pair.split("/") for pair in """
Afghanistan/Kabul Albania/Tirana Algeria/Algiers Angola/Luanda Armenia/Yerevan Australia/Canberra Austria/Vienna
Azerbaijan/Baku Bahrain/Manama Bangladesh/Dhaka Barbados/Bridgetown Belarus/Minsk Belgium/Brussels Belize/Belmopan
Bhutan/Thimphu Bolivia/Sucre Bosnia/Sarajevo Botswana/Gaborone Brazil/Brasilia Bulgaria/Sofia Burundi/Gitega
Cameroon/Yaounde Canada/Ottawa Chad/N'Djamena Chile/Santiago China/Beijing Colombia/Bogota Congo/Brazzaville
Croatia/Zagreb Cuba/Havana Cyprus/Nicosia Denmark/Copenhagen Djibouti/Djibouti Ecuador/Quito Egypt/Cairo
England/London Eritrea/Asmara Estonia/Tallinn Eswatini/Mbabane Fiji/Suva Finland/Helsinki
France/Paris Gabon/Libreville Germany/Berlin Ghana/Accra Greece/Athens Greenland/Nuuk Guinea/Conakry
Guyana/Georgetown Haiti/Port-au-Prince Honduras/Tegucigalpa Hungary/Budapest Iceland/Reykjavik Indonesia/Jakarta
Iran/Tehran Iraq/Baghdad Ireland/Dublin Israel/Jerusalem Italy/Rome Jamaica/Kingston Japan/Tokyo Jordan/Amman
Kazakhstan/Astana Kenya/Nairobi Kosovo/Pristina Kyrgyzstan/Bishkek Laos/Vientiane Latvia/Riga Lebanon/Beirut
Lesotho/Maseru Liberia/Monrovia Libya/Tripoli Liechtenstein/Vaduz Lithuania/Vilnius Luxembourg/Luxembourg
Madagascar/Antananarivo Malawi/Lilongwe Mali/Bamako Malta/Valletta Mauritania/Nouakchott Moldova/Chisinau
Mongolia/Ulaanbaatar Montenegro/Podgorica Morocco/Rabat Mozambique/Maputo Myanmar/Naypyidaw Namibia/Windhoek
Nepal/Kathmandu Nicaragua/Managua Niger/Niamey Nigeria/Abuja Norway/Oslo Oman/Muscat Pakistan/Islamabad
Paraguay/Asuncion Peru/Lima Poland/Warsaw Portugal/Lisbon Qatar/Doha Romania/Bucharest Russia/Moscow Rwanda/Kigali
Samoa/Apia Scotland/Edinburgh Senegal/Dakar Serbia/Belgrade Singapore/Singapore Slovakia/Bratislava
Slovenia/Ljubljana Somalia/Mogadishu Spain/Madrid Sudan/Khartoum Suriname/Paramaribo Sweden/Stockholm
Switzerland/Bern Syria/Damascus Taiwan/Taipei Tajikistan/Dushanbe Tanzania/Dodoma Thailand/Bangkok Togo/Lome
Tonga/Nuku'alofa Tunisia/Tunis Turkey/Ankara Turkmenistan/Ashgabat Uganda/Kampala Ukraine/Kyiv Uruguay/Montevideo
Uzbekistan/Tashkent Venezuela/Caracas Vietnam/Hanoi Wales/Cardiff Yemen/Sanaa Zambia/Lusaka
Zimbabwe/Harare""".split()) | {
    "Argentina": "Buenos Aires", "Benin": "Porto-Novo", "Brunei": "Bandar Seri Begawan", "Burkina Faso": "Ouagadougou",
    "Cambodia": "Phnom Penh", "Cape Verde": "Praia", "Costa Rica": "San Jose", "East Timor": "Dili",
    "El Salvador": "San Salvador", "Ethiopia": "Addis Ababa", "Grenada": "Saint George's",
    "Guatemala": "Guatemala City", "India": "New Delhi", "Ivory Coast": "Yamoussoukro", "Kuwait": "Kuwait City",
    "Malaysia": "Kuala Lumpur", "Mauritius": "Port Louis", "Mexico": "Mexico City", "New Zealand": "Wellington",
    "North Korea": "Pyongyang", "North Macedonia": "Skopje", "Panama": "Panama City",
    "Papua New Guinea": "Port Moresby", "Saudi Arabia": "Riyadh",
    "Sierra Leone": "Freetown", "South Africa": "Pretoria", "South Korea": "Seoul", "South Sudan": "Juba",
    "Sri Lanka": "Colombo", "Trinidad and Tobago": "Port of Spain", "Vanuatu": "Port Vila", "the Bahamas": "Nassau",
    "the Central African Republic": "Bangui", "the Czech Republic": "Prague",
    "the Democratic Republic of the Congo": "Kinshasa", "the Dominican Republic": "Santo Domingo",
    "the Gambia": "Banjul", "the Maldives": "Male", "the Netherlands": "Amsterdam", "the Philippines": "Manila",
    "the Solomon Islands": "Honiara", "the United Arab Emirates": "Abu Dhabi", "the United States": "Washington",
}

FORWARD_ONLY = {"the United Kingdom": "London"}

# Places whose parliament or government sits elsewhere: nothing is said of where they are governed from.
SEAT_ELSEWHERE = {"Benin", "Bolivia", "Burundi", "Chile", "Greenland", "Ivory Coast", "Malaysia",
                  "South Africa", "Sri Lanka", "Tanzania", "Trinidad and Tobago", "the Netherlands"}
